"""What trainers reported while they trained: ``reports/<worker>.jsonl``, checksummed lines as in a spool.

A line is ``{"crc":…,"kind":"step","run_id":…,"attempt":…,"token":…,"step":…,"at":…,"metrics":{…}}``, in the
order of reporting; of two lines of one attempt and step a metric's later value counts. ``at`` is Unix
seconds; numbers that are not finite are the texts of :mod:`trainers.run_result`. The files are no spools: no
result is in them, so nothing but what shows reports reads them, and a sweep without them is whole.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator.store.layout import Layout
from orchestrator.store.spool import SpoolHealth, decode_line, encode_line, read_spool
from trainers.run_result import number_from_json, number_to_json

TAIL_BYTES = 64 * 2**10
"""End of a file that is looked through for the newest rows: some 300 rows."""


MAX_MENTIONED = 20
"""Runs whose ids a line is searched for before it is parsed; of more, all lines are parsed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportedRow:
    """What was reported of one step in one call."""

    run_id: str
    attempt: int
    """Zero-based number of the try."""
    token: int
    """The attempt's lease."""
    worker: str
    step: int
    at: float
    """When, Unix seconds."""
    metrics: Mapping[str, Any]


def report_line(head: Mapping[str, Any], step: int, metrics: Mapping[str, Any], at: float) -> bytes:
    """A row as a line."""
    values = {name: number_to_json(value) for name, value in metrics.items()}
    return encode_line({**head, "step": step, "at": at, "metrics": values})


def reported_rows(
    layout: Layout,
    run_ids: str | Collection[str] | None = None,
    *,
    health: SpoolHealth | None = None,
) -> Iterator[ReportedRow]:
    """The rows of a sweep, worker by worker, in the order of reporting; damaged lines are passed over.

    Args:
        layout: the directory.
        run_ids: only those of this run or these.
        health: what is met besides valid lines is counted here.
    """
    wanted = None if run_ids is None else {run_ids} if isinstance(run_ids, str) else frozenset(run_ids)
    mentioning = tuple(map(str.encode, wanted or ()))
    if len(mentioning) > MAX_MENTIONED:
        mentioning = ()
    for path in sorted(layout.reports.glob("*.jsonl")):
        for line in read_spool(path, health or SpoolHealth(), live=True, mentioning=mentioning):
            row = _row(path.stem, line.header)
            if row is not None and (wanted is None or row.run_id in wanted):
                yield row


def newest_rows(layout: Layout, workers: Iterable[str], tokens: Collection[int]) -> list[ReportedRow]:
    """The newest row of each of these attempts, which these workers are at, newest first; all that was told
    of its step is in it.
    """
    found: dict[int, ReportedRow] = {}
    for worker in workers:
        if "/" in worker:  # a name that no driver gives
            continue
        for row in _tail(worker, layout.report_file(worker)):
            if row.token in tokens:
                before = found.get(row.token)
                found[row.token] = row if before is None else _joined(before, row)
    return sorted(found.values(), key=lambda row: -row.at)


def by_attempt(rows: Iterable[ReportedRow]) -> dict[int, list[ReportedRow]]:
    """Attempts, by their leases in order, each with one row a step that holds all that was told of it."""
    steps: dict[int, dict[int, ReportedRow]] = {}
    for row in rows:
        of_attempt = steps.setdefault(row.token, {})
        before = of_attempt.get(row.step)
        of_attempt[row.step] = row if before is None else _joined(before, row)
    return {token: [steps[token][step] for step in sorted(steps[token])] for token in sorted(steps)}


class ReportFollower:
    """Reads what is added to the reports of a sweep, each row once."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._offsets: dict[str, int] = {}

    def new_rows(self) -> Iterator[ReportedRow]:
        """The rows since the last call, worker by worker."""
        for path in sorted(self._layout.reports.glob("*.jsonl")):
            health = SpoolHealth()
            start = self._offsets.get(path.name, 0)
            for line in read_spool(path, health, start, live=True):
                row = _row(path.stem, line.header)
                if row is not None:
                    yield row
            self._offsets[path.name] = health.read_bytes[path.name]


def _joined(before: ReportedRow, row: ReportedRow) -> ReportedRow:
    """A row with what an earlier one told of the same step; of another step it stands alone."""
    if before.step != row.step:
        return row
    return replace(row, metrics={**before.metrics, **row.metrics})


def _tail(worker: str, path: Path) -> Iterator[ReportedRow]:
    """The last rows of a file, where there is one."""
    try:
        with path.open("rb", buffering=0) as file:
            start = max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES)
            lines = os.pread(file.fileno(), TAIL_BYTES, start).splitlines(keepends=True)
    except FileNotFoundError:
        return
    for raw in lines[1:] if start else lines:
        line = decode_line(raw)
        if line is not None and (row := _row(worker, line.header)) is not None:
            yield row


def _row(worker: str, header: Mapping[str, Any]) -> ReportedRow | None:
    if header["kind"] != "step":
        return None
    return ReportedRow(
        run_id=header["run_id"],
        attempt=header["attempt"],
        token=header["token"],
        worker=worker,
        step=header["step"],
        at=header["at"],
        metrics={name: number_from_json(value) for name, value in header["metrics"].items()},
    )
