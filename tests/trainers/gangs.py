"""Real gangs for tests: fresh processes that join over gloo and run specs, rank 0 reporting."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from typing import Any

from sweeps.spec import RunSpec

JOIN_S = 240


def run_in_gang(specs: Sequence[RunSpec], world_size: int) -> list[dict[str, Any]]:
    """Run specs one after another in a fresh gang and return rank 0's results as JSON."""
    context = multiprocessing.get_context("spawn")
    reports, addresses = context.Queue(), context.Queue()
    ranks = [
        context.Process(target=_rank, args=(rank, world_size, specs, addresses, reports))
        for rank in range(world_size)
    ]
    for process in ranks:
        process.start()
    try:
        results = reports.get(timeout=JOIN_S)
    finally:
        for process in ranks:
            process.join(30)
            process.kill()
    assert isinstance(results, list), results
    return results


def _rank(rank: int, world_size: int, specs: Sequence[RunSpec], addresses: Any, reports: Any) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    from trainers.em import EntropyMinimization
    from trainers.gang import host_rendezvous
    from trainers.protocol import RunContext, WorkerContext

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
        results = [trainer.run(spec, RunContext()).to_json() for spec in specs]
        trainer.close()
    except BaseException as error:
        reports.put(repr(error))
        raise
    if rank == 0:
        reports.put(results)
