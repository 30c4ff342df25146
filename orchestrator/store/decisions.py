"""What a race has decided so far, read from the journals alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from orchestrator.store.fencing import journal_lines
from orchestrator.store.layout import Layout
from orchestrator.store.records import DecisionRecord, ReopenRecord, record_of
from orchestrator.store.spool import SpoolHealth
from sweeps.grid.columns import SEED_KEY
from sweeps.manifest.manifest import Manifest
from sweeps.spec.search_rules import RaceSpec

_MENTIONING = (b'"kind":"decision"', b'"kind":"reopen"')


def read_decisions(layout: Layout) -> list[DecisionRecord]:
    """The decisions that stand, in the order in which they were taken: those by the newest rule, the last of
    each cell, without any whose skipped runs were wanted again.
    """
    standing: dict[tuple[str, ...], DecisionRecord] = {}
    for line in journal_lines(layout, SpoolHealth(), live=True, mentioning=_MENTIONING):
        record = record_of(line.header)
        if isinstance(record, DecisionRecord):
            standing[tuple(record.cells)] = record
        elif isinstance(record, ReopenRecord):
            wanted = set(record.runs)
            standing = {cells: d for cells, d in standing.items() if not wanted.intersection(d.runs)}
    newest = [d.rule for d in standing.values()][-1:]
    return [d for d in standing.values() if d.rule in newest]


def rule_of(spec: RaceSpec, metric: str, manifest: Manifest) -> dict[str, Any]:
    """What decisions are taken by, as their records have it. Which cell is best is asked of all that there
    are, so that with others it is another question.
    """
    rule = {**spec.to_json(), "metric": metric}
    return rule if spec.question != "best" else rule | {"cells": _digest_of_cells(manifest)}


def standing(
    decisions: Iterable[DecisionRecord], manifest: Manifest, rule: dict[str, Any]
) -> dict[tuple[int, ...], DecisionRecord]:
    """The decisions by this rule about cells that the manifest has, the last of each, by its cells."""
    found: dict[tuple[int, ...], DecisionRecord] = {}
    for record in decisions:
        runs = [manifest.index_of.get(run_id) for run_id in record.cells]
        if record.rule == rule and None not in runs:
            found[tuple(int(manifest.cells[run]) for run in runs)] = record
    return found


def _digest_of_cells(manifest: Manifest) -> str:
    first = np.unique(manifest.cells, return_index=True)[1].tolist()
    values = ({**manifest.axis_values(run), SEED_KEY: None} for run in first)
    texts = sorted(json.dumps(of_cell, sort_keys=True) for of_cell in values)
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()
