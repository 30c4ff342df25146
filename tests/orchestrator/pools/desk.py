"""Asks a pool for workers, gives them batches, and hears what becomes of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.pools.base import Pool
from orchestrator.scheduling.events import (
    Beat,
    Reported,
    Shape,
    WorkerLost,
    WorkerReady,
)
from orchestrator.store.outcomes import AttemptReport, Grant
from orchestrator.store.spool import LineReader
from orchestrator.worker.protocol import Task, WorkerSetup
from sweeps.manifest.manifest import Manifest
from tests.orchestrator.sweeping import noop_manifest

OF_WORKER = TypeVar("OF_WORKER", WorkerReady, WorkerLost, Beat)

SEEING = "tests.orchestrator.pools.seeing.Seeing"

PATIENCE_S = 60.0


class Desk:
    """One test's use of a pool; every result is looked up in its spool as it is reported."""

    def __init__(self, pool: Pool, folder: Path) -> None:
        self.pool, self.folder = pool, folder
        self.heard: list[Any] = []
        self._names: list[str] = []
        self._tokens = 0

    def start(self, *names: str, **shape: Any) -> None:
        """Ask for workers."""
        for name in names:
            setup = WorkerSetup(
                name=name,
                spool=self.folder / f"{name}.jsonl",
                checkpoints=self.folder,
                log=self.folder / f"{name}.log",
                import_path=(str(Path(__file__).parents[3]),),
            )
            self._names.append(name)
            self.pool.start_worker(setup, Shape(**shape))

    def up(self, *names: str) -> None:
        """Wait until workers are up."""
        self.wait(lambda: all(self.of(WorkerReady, name) for name in names))

    def stop(self, *names: str) -> None:
        """Stop workers and wait until they are gone."""
        for name in names:
            self.pool.stop_worker(name)
        self.gone(*names)

    def gone(self, *names: str) -> None:
        """Wait until workers are lost."""
        self.wait(lambda: all(self.of(WorkerLost, name) for name in names))

    def give(self, name: str, manifest: Manifest, *seeds: int) -> list[int]:
        """Dispatch the runs of these seeds as one batch; return their tokens."""
        row_of = {manifest.axis_values(row)["seed"]: row for row in range(len(manifest))}
        items = []
        for row in (row_of[seed] for seed in seeds):
            self._tokens += 1
            items.append(Task(Grant(row, 0, self._tokens), manifest.run_ids[row], manifest.spec(row)))
        self.pool.dispatch(name, items)
        return [item.grant.token for item in items]

    def outcomes(self, tokens: list[int]) -> list[str]:
        """How attempts ended, once all of them have."""
        self.wait(lambda: {r.token for r in self.reports()} >= set(tokens))
        outcome_of = {r.token: r.outcome for r in self.reports()}
        return [outcome_of[token] for token in tokens]

    def work(self, name: str, manifest: Manifest, *seeds: int) -> list[str]:
        """Dispatch runs and wait for how they end."""
        return self.outcomes(self.give(name, manifest, *seeds))

    def reports(self) -> list[AttemptReport]:
        """Reports in the order in which they came."""
        return [r for event in self.heard if isinstance(event, Reported) for r in event.reports]

    def of(self, kind: type[OF_WORKER], name: str) -> list[OF_WORKER]:
        """Events of one kind about a worker."""
        return [event for event in self.heard if isinstance(event, kind) and event.worker == name]

    def wait(self, condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
        """Listen until something holds."""
        until_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < until_s, self.heard
            self._listen_once()

    def listen(self, seconds: float) -> None:
        """Listen for a while."""
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            self._listen_once()

    def _listen_once(self) -> None:
        events = self.pool.events(0.1)
        for event in events:
            if isinstance(event, Reported):
                self._look_up(event)
        self.heard += events

    def _look_up(self, reported: Reported) -> None:
        lines = LineReader(self.folder)
        for report in reported.reports:
            if report.outcome in ("done", "diverged"):
                line = lines.read(report.spool, report.offset, report.length)
                assert line is not None, "a result was reported before it lay in the spool"
                assert line.header["token"] == report.token
        lines.close()

    def clear(self) -> None:
        """Kill what is left."""
        for name in self._names:
            if not self.of(WorkerLost, name):
                self.pool.kill_worker(name, record_stack=False)
                self.gone(name)


def manifest_of(target: str = "", **params: Any) -> Manifest:
    """Eight runs, seeds 0 to 7."""
    return noop_manifest(8, target=target, **params)


def seen(desk: Desk, seed: int, rank: int = 0) -> dict[str, Any]:
    """What a rank wrote down of its process in the run of a seed."""
    file = desk.folder / f"{seed}-{rank}"
    desk.wait(lambda: file.exists() and file.read_text())
    return json.loads(file.read_text())
