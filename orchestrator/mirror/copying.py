"""The loop of the mirror: what is new, run by run, with patience for a server that has none left."""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import os
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from orchestrator.mirror.following import LiveCopies, while_it_runs
from orchestrator.mirror.reading import finished, read_runs
from orchestrator.mirror.target import TARGETS, Destination, FinishedRun, Target
from orchestrator.store.frozen import require_frozen
from orchestrator.store.layout import Layout
from sweeps.spec import nearest
from sweeps.spec.errors import UserError

WAITS_S = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Waits after failures in a row; two minutes outlast a rate limit, which counts by the minute."""


@dataclass(frozen=True, kw_only=True)
class MirrorReport:
    """What one call did."""

    new: int
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
    follow: bool = False,
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
        follow: while the sweep runs, copy runs as they end, and show what those at work report.
        sleep: waits between tries.

    Raises:
        UserError: when the directory is no sweep, the target's package is not installed, another call is at
            work on the same target, or the other side stays out of reach.
    """
    if to not in TARGETS:
        raise UserError(f"--to {to!r}: choose one of {', '.join(TARGETS)}{nearest(to, TARGETS)}")
    layout = Layout(directory)
    require_frozen(layout)
    module = importlib.import_module(f"orchestrator.mirror.to_{to}")
    folder = directory / to
    _require_own(folder)
    where = Destination(folder=folder, project=project, entity=entity, online=online, url=url)
    with _one_line(directory):
        target: Target = module.open_target(replace(where, folder=folder.absolute()))
    folder.mkdir(exist_ok=True)
    with (folder / "mirrored.txt").open("a+") as ledger:
        _hold(ledger, directory)
        ledger.seek(0)
        before = set(ledger.read().split())
        mirrored = set(before)

        def copy_finished(shown: Collection[str] = ()) -> None:
            todo = [r for r in finished(layout) if r["run_id"] not in mirrored and r["run_id"] not in shown]
            if todo:
                with _one_line(directory):
                    target.clean({row["run_id"] for row in todo})
            for done, run in enumerate(read_runs(layout, todo), start=1):
                _copy(target, run, done - 1, directory, sleep)
                ledger.write(run.run_id + "\n")
                ledger.flush()
                os.fsync(ledger.fileno())
                mirrored.add(run.run_id)
                progress(done, len(todo))

        if follow:
            while_it_runs(layout, LiveCopies(layout, target), copy_finished, sleep)
        else:
            copy_finished()
        num_results = len(finished(layout))
    target.close()
    num_new = len(mirrored) - len(before)
    return MirrorReport(new=num_new, already=num_results - num_new)


def _require_own(folder: Path) -> None:
    """Refuse a folder that cannot be written to, or by whose links what is copied would land elsewhere."""
    if not os.access(folder if folder.exists() else folder.parent, os.W_OK):
        raise UserError(
            f"mirror: {str(folder)!r}, where it keeps what it has copied, cannot be written; mirror a copy "
            "of the sweep directory in a folder of yours"
        )
    inside = folder.parent.resolve()
    for path in (folder, *folder.glob("*")):
        if path.is_symlink() and not path.resolve().is_relative_to(inside):
            raise UserError(
                f"mirror: {str(path)!r} is a link out of the directory, to {str(path.resolve())!r}; remove it"
            )


def _hold(ledger: IO[str], directory: Path) -> None:
    """Keep other calls out until the ledger is closed: two at once would copy runs twice."""
    try:
        fcntl.flock(ledger, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(
            f"mirror: another call is copying the runs of {str(directory)!r}; wait for it"
        ) from None


@contextlib.contextmanager
def _one_line(directory: Path, done: int = 0) -> Iterator[None]:
    """Say in one line that the other side does not take runs, after ``done`` of them."""
    try:
        yield
    except ConnectionError as error:
        reason = str(error).split("\n")[0][:200]
        raise UserError(
            f"mirror: the server does not take runs ({reason}); {done} were copied, and "
            f"`emsweep mirror {directory}` goes on from there"
        ) from error


def _copy(
    target: Target, run: FinishedRun, done: int, directory: Path, sleep: Callable[[float], None]
) -> None:
    """Copy a run, trying again after ever longer waits."""
    for number, wait_s in enumerate(WAITS_S):
        try:
            _try(target, run, again=number > 0)
        except ConnectionError:
            sleep(wait_s)
        else:
            return
    with _one_line(directory, done):
        _try(target, run, again=True)


def _try(target: Target, run: FinishedRun, *, again: bool) -> None:
    if again:
        target.clean({run.run_id})
    target.copy(run)
