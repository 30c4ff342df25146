"""Real gangs for tests: fresh processes that join over gloo and run specs, rank 0 reporting."""

from __future__ import annotations

import multiprocessing
import os
import queue
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

from sweeps.spec import RunSpec

JOIN_S = 240


class Ranks:
    """The processes of one gang; they stay, warm, until they are closed."""

    def __init__(self, world_size: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._reports, self._addresses = context.Queue(), context.Queue()
        self._work = [context.Queue() for _ in range(world_size)]
        self._processes = [
            context.Process(
                target=_rank, args=(rank, world_size, work, self._addresses, self._reports), daemon=True
            )
            for rank, work in enumerate(self._work)
        ]
        for process in self._processes:
            process.start()

    def run(
        self,
        specs: Sequence[RunSpec],
        *,
        called_off_on: int | None = None,
        reports_lost_on: int | None = None,
        together: bool = False,
        keep_in: Path | None = None,
    ) -> list[dict[str, Any]]:
        """Run specs and return rank 0's results as JSON.

        Args:
            specs: the runs.
            called_off_on: the one rank that hears that they are called off.
            reports_lost_on: the one rank where what runs report cannot be written.
            together: as one group, and not one after another; results hold what was reported, too.
            keep_in: where runs put the weights that they keep, each in a folder of its number.
        """
        for rank, work in enumerate(self._work):
            work.put((list(specs), rank == called_off_on, rank == reports_lost_on, together, keep_in))
        deadline_s = monotonic() + JOIN_S
        while True:
            try:
                results = self._reports.get(timeout=1)
            except queue.Empty:
                assert all(p.is_alive() for p in self._processes), "a rank died without a word"
                assert monotonic() < deadline_s, f"no result within {JOIN_S} s"
            else:
                assert isinstance(results, list), results
                return results

    def close(self) -> None:
        """End the processes."""
        for work in self._work:
            work.put(None)
        for process in self._processes:
            process.join(30)
            process.kill()


def _note(rows: list[dict[str, Any]], step: int, **values: Any) -> Any:
    from trainers.reporting.decision import GO_ON

    rows.append({"step": step, **values})
    return GO_ON


def _refuse(step: int, **values: Any) -> Any:
    raise OSError("the report was lost")


def _as_json(outcome: Any) -> dict[str, Any]:
    return {"error": repr(outcome)} if isinstance(outcome, BaseException) else outcome.to_json()


def run_in_fresh_process(spec: RunSpec) -> dict[str, Any]:
    """A run's result as JSON, from a process that has run nothing before."""
    alone = Ranks(1)
    try:
        [result] = alone.run([spec])
    finally:
        alone.close()
    return result


def _rank(rank: int, world_size: int, work: Any, addresses: Any, reports: Any) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    from trainers.em import EntropyMinimization
    from trainers.engine.gang import host_rendezvous
    from trainers.protocol import Cancelled, RunContext, WorkerContext

    address = ""
    if world_size > 1:
        if rank == 0:
            address = host_rendezvous("127.0.0.1")
            for _ in range(world_size - 1):
                addresses.put(address)
        else:
            address = addresses.get(timeout=JOIN_S)
    try:
        trainer = EntropyMinimization(WorkerContext(rank=rank, world_size=world_size, rendezvous=address))
        for specs, called_off, lost, together, keep_in in iter(work.get, None):
            contexts, told = [], [list[dict[str, Any]]() for _ in specs]
            for number, rows in enumerate(told):
                folder = keep_in / str(number) if keep_in else None
                contexts.append(
                    RunContext(
                        cancelled=lambda called_off=called_off: called_off,
                        checkpoint_dir=folder,
                        report=_refuse if lost else partial(_note, rows),
                    )
                )
            results = []
            if together:
                outcomes = dict(trainer.run_group(specs, contexts))
                results = [_as_json(outcomes[k]) | {"reported": told[k]} for k in range(len(specs))]
            for spec, context in zip(specs, contexts, strict=True) if not together else ():
                try:
                    results.append(trainer.run(spec, context).to_json())
                except Cancelled:
                    results.append({"outcome": "cancelled"})
            if rank == 0:
                reports.put(results)
        trainer.close()
    except BaseException as error:
        reports.put(repr(error))
        raise
