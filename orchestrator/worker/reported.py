"""What a trainer reports while it trains: kept at once, so that it is there when the run dies.

Bytes it owns: the worker's file in ``reports/``. A row is one ``write()``, which outlives a kill of worker
and driver, and is not synced, so not a loss of power; a disk that takes nothing costs the kept row, never the
run.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.store.reports import report_line
from orchestrator.store.spool import SpoolWriter
from orchestrator.worker.protocol import Task, WorkerSetup
from trainers.protocol import Cancelled, Outcome, RunResult
from trainers.reporting import GO_ON, Decision
from trainers.reporting.rows import checked_row

CANCELLED = Decision(stop=True, reason="cancelled")
"""What a run that was called off hears."""


class ReportLog:
    """The file of a worker's reports, made when there is something to write."""

    def __init__(self, path: Path | None, *, ship: bool) -> None:
        """Write to ``path``, or nowhere; with ``ship`` also keep the bytes for :meth:`shipment`."""
        self._path, self._ship = path, ship
        self._file: SpoolWriter | None = None
        self._waiting: list[bytes] = []
        self._complained = False
        self._lock = threading.Lock()

    def write(self, line: bytes) -> None:
        """Append a row; several threads may call."""
        if self._path is None:
            return
        with self._lock:
            try:
                if self._file is None:
                    self._path.parent.mkdir(parents=True, exist_ok=True)
                    self._file = SpoolWriter(self._path)
                self._file.append(line)
            except OSError as error:  # the next row is tried again
                if not self._complained:
                    print(f"emsweep: reports are not kept: {self._path}: {error}", file=sys.stderr)
                self._complained = True
                return
            self._complained = False
            if self._ship:
                self._waiting.append(line)

    def shipment(self) -> bytes:
        """What was written since the last call, for a driver that does not see the file."""
        if not self._waiting:
            return b""
        with self._lock:
            lines, self._waiting = self._waiting, []
        return b"".join(lines)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class WorkerReports:
    """What the attempts of one worker report."""

    def __init__(self, setup: WorkerSetup, cancelled: Collection[int], beat: Callable[[], None]) -> None:
        """Keep reports where ``setup`` says.

        Args:
            setup: of the worker.
            cancelled: tokens of attempts that were called off, as of now.
            beat: called at each report.
        """
        path = None if setup.reports is None else Path(setup.node_folder) / setup.reports
        self._log = ReportLog(path, ship=bool(setup.node_folder))
        self._cancelled, self._beat = cancelled, beat
        self._attempts: dict[int, AttemptReports] = {}

    def begun(self, task: Task) -> AttemptReports:
        """The reports of an attempt that begins."""
        reports = AttemptReports(self._log, task, self._cancelled, self._beat)
        self._attempts[task.grant.token] = reports
        return reports

    def ended(self, token: int, outcome: Outcome) -> Outcome:
        """How an attempt ended: a result without steps of its own has those that were reported, and what is
        returned after being told to stop is none.
        """
        reports = self._attempts.pop(token, None)
        if reports is not None and reports.heard_stop and isinstance(outcome, RunResult):
            return Cancelled(CANCELLED.reason)
        if reports is None or not reports.has_any or not isinstance(outcome, RunResult) or outcome.steps:
            return outcome
        return replace(outcome, steps=reports.steps())

    def shipment(self) -> bytes:
        """Rows for a driver that does not see the file."""
        return self._log.shipment()

    def close(self) -> None:
        self._log.close()


class AttemptReports:
    """One attempt's reports: kept in the log, and for its result. One is made for each run, so quickly."""

    __slots__ = ("_beat", "_cancelled", "_log", "_rows", "_task", "heard_stop")

    def __init__(
        self, log: ReportLog, task: Task, cancelled: Collection[int], beat: Callable[[], None]
    ) -> None:
        self._log, self._task, self._cancelled, self._beat = log, task, cancelled, beat
        self._rows: dict[int, dict[str, Any]] = {}
        self.heard_stop = False
        """Whether the trainer was told to stop: what it returns then is not the whole run's."""

    @property
    def has_any(self) -> bool:
        return bool(self._rows)

    def report(self, /, step: int, **metrics: Any) -> Decision:
        """Keep a row, as :class:`trainers.reporting.Report` says."""
        number, row = checked_row(step, metrics)
        self._log.write(report_line(self._head(), number, row, time.time()))
        self._rows.setdefault(number, {"step": number}).update(row)
        self._beat()
        return self.decision()

    def decision(self) -> Decision:
        """The newest decision known."""
        if self._task.grant.token not in self._cancelled:
            return GO_ON
        self.heard_stop = True
        return CANCELLED

    def steps(self) -> list[dict[str, Any]]:
        """The rows by step, each with all that was reported of it."""
        return [self._rows[step] for step in sorted(self._rows)]

    def _head(self) -> dict[str, Any]:
        grant = self._task.grant
        return {"kind": "step", "run_id": self._task.run_id, "attempt": grant.attempt, "token": grant.token}
