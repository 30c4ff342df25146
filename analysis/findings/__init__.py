"""Twelve questions that a sweep of entropy minimization should answer, each a table, a figure and a sentence.

Every analysis is a function of a :class:`~analysis.data.sweep.SweepData` and returns a :class:`Finding`. What
it needs and does not find it says in ``missing``, instead of an empty table.
"""

from __future__ import annotations

from analysis.findings.base import Finding
from analysis.findings.registry import FINDINGS, find, find_all

__all__ = ["FINDINGS", "Finding", "find", "find_all"]
