"""The loop of the mirror: what is new, run by run, with patience for a server that has none left."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.errors import UserError
from orchestrator.mirror.reading import finished, read_runs
from orchestrator.mirror.target import TARGETS, Destination, FinishedRun, Target
from orchestrator.store.layout import Layout
from sweeps.spec import nearest

WAITS_S = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Waits after failures in a row; two minutes outlast a rate limit, which counts by the minute."""


@dataclass(frozen=True, kw_only=True)
class MirrorReport:
    """What one call did."""

    new: int
    """Runs copied by this call."""
    already: int
    """Runs that an earlier call had copied."""


def mirror_sweep(
    directory: Path,
    *,
    to: str = "wandb",
    project: str,
    entity: str | None = None,
    online: bool | None = None,
    url: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    sleep: Callable[[float], None] = time.sleep,
) -> MirrorReport:
    """Copy every finished run that is not mirrored yet.

    Args:
        directory: the sweep directory.
        to: one of :data:`~orchestrator.mirror.target.TARGETS`.
        project: W&B project or MLflow experiment.
        entity: W&B team or user; ``None`` takes the login's own.
        online: upload to W&B at once instead of writing offline folders for ``wandb sync``; ``None`` does so
            when a key is at hand.
        url: MLflow's tracking server or store; its own variable or a file in the directory by default.
        progress: called with (runs copied, runs to copy).
        sleep: waits between tries.

    Raises:
        UserError: when the directory is no sweep, the target's package is not installed, or the other side
            stays out of reach.
    """
    if to not in TARGETS:
        raise UserError(f"--to {to!r}: choose one of {', '.join(TARGETS)}{nearest(to, TARGETS)}")
    layout = Layout(directory)
    layout.require_sweep()
    module = importlib.import_module(f"orchestrator.mirror.to_{to}")
    folder = directory / to
    where = Destination(folder=folder, project=project, entity=entity, online=online, url=url)
    target: Target = module.open_target(replace(where, folder=folder.absolute()))
    folder.mkdir(exist_ok=True)
    ledger = folder / "mirrored.txt"
    mirrored = set(ledger.read_text().split()) if ledger.exists() else set()
    rows = finished(layout)
    todo = [row for row in rows if row["run_id"] not in mirrored]
    if todo:
        target.clean({row["run_id"] for row in todo})
    with ledger.open("a") as written:
        for done, run in enumerate(read_runs(layout, todo), start=1):
            _copy(target, run, done - 1, directory, sleep)
            written.write(run.run_id + "\n")
            written.flush()
            os.fsync(written.fileno())
            progress(done, len(todo))
    target.close()
    return MirrorReport(new=len(todo), already=len(rows) - len(todo))


def _copy(
    target: Target, run: FinishedRun, done: int, directory: Path, sleep: Callable[[float], None]
) -> None:
    """Copy a run, trying again after ever longer waits."""
    for wait_s in (*WAITS_S, None):
        try:
            target.copy(run)
            return
        except ConnectionError as error:
            if wait_s is None:
                reason = str(error).split("\n")[0][:200]
                raise UserError(
                    f"mirror: the server does not take runs ({reason}); {done} were copied, and "
                    f"`emsweep mirror {directory}` goes on from there"
                ) from error
            sleep(wait_s)
            target.clean({run.run_id})
