"""Failed runs grouped by fingerprint, with what each group has in common. Pure.

An axis value is over-represented in a group when it holds a larger share of the group than of the sweep. Its
score is the hypergeometric tail: how likely at least as many of the group would have it by chance.
"""

from __future__ import annotations

import math
import shlex
from collections import Counter
from typing import Any

import numpy as np

from orchestrator.store.run_index import RunIndex
from sweeps.grid.columns import ABSENT
from sweeps.grid.filters import as_text, write_term
from sweeps.manifest.manifest import Manifest

SIGNIFICANT = 0.01
"""Largest chance probability of a value that is named: a table of ten axes then names a wrong one rarely."""

MAX_VALUES = 3
"""Over-represented values named per group."""


def failure_groups(manifest: Manifest, book: RunIndex) -> list[dict[str, Any]]:
    """Failed and quarantined runs by fingerprint, the largest group first.

    Returns:
        Per group ``fingerprint, class, message, count``, the newest as ``example`` with ``example_attempt``,
        ``over_represented`` (axis, value, share in the group, share in the sweep) and a ``filter`` that
        selects the group's most telling value, empty when nothing stands out.
    """
    groups: dict[str, list[int]] = {}
    for index, note in sorted(book.notes.items(), key=lambda entry: (entry[1].at or 0.0, entry[0])):
        if book.outcome_of(index) in ("failed", "quarantined"):
            groups.setdefault(note.failure.fingerprint, []).append(index)
    found = [_group(manifest, book, members) for members in groups.values()]
    return sorted(found, key=lambda group: (-group["count"], group["fingerprint"]))


def _group(manifest: Manifest, book: RunIndex, members: list[int]) -> dict[str, Any]:
    note = book.notes[members[-1]]
    named = []
    for column in manifest.columns:
        here = Counter(column.codes[members].tolist())
        everywhere = np.bincount(column.codes[column.codes != ABSENT], minlength=len(column.values))
        for code, count in here.items():
            if code == ABSENT:
                continue
            total = int(everywhere[code])
            chance = tail(len(manifest), total, len(members), count)
            if chance < SIGNIFICANT:
                value = column.values[code]
                named.append((chance, column.key, value, count / len(members), total / len(manifest)))
    named.sort(key=lambda entry: (entry[0], entry[1], as_text(entry[2])))
    return {
        "fingerprint": note.failure.fingerprint,
        "class": note.failure.failure_class,
        "message": note.failure.message,
        "count": len(members),
        "example": book.run_ids[members[-1]],
        "example_attempt": note.attempt,
        "over_represented": [
            {"axis": axis, "value": as_text(value), "share": share, "share_of_sweep": of_sweep}
            for _, axis, value, share, of_sweep in named[:MAX_VALUES]
        ],
        "filter": shlex.quote(write_term(*named[0][1:3])) if named else "",
    }


def tail(population: int, marked: int, drawn: int, hits: int) -> float:
    """Probability that at least ``hits`` of ``drawn`` are marked, drawn without replacement.

    The hypergeometric tail (Fisher's exact test, one-sided), summed from logarithms of binomials.
    """
    whole = _log_comb(population, drawn)
    total = 0.0
    for k in range(max(hits, drawn - (population - marked)), min(drawn, marked) + 1):
        term = math.exp(_log_comb(marked, k) + _log_comb(population - marked, drawn - k) - whole)
        total += term
        if k > drawn * marked / population and term < total * 1e-12:
            break
    return min(1.0, total)


def _log_comb(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
