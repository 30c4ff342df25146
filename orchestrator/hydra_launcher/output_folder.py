"""A fresh output folder for every attempt at a job.

Owns the file ``.emsweep-runs`` in each job's output folder: the ids of the runs that have used it. A folder
that one run has had to itself is given another name before the run's next attempt, which so finds none of the
files of the one before; one that jobs share by their own configuration is left as it is.
"""

from __future__ import annotations

from pathlib import Path

MARK = ".emsweep-runs"
"""Name of the file in an output folder."""


def begin_attempt(folder: Path, run_id: str) -> Path | None:
    """Make room for an attempt; returns where the files of the one before have gone, if there were any."""
    moved = None
    users = _users(folder)
    if users == [run_id]:
        moved = _free(folder)
        folder.rename(moved)
        users = []
    elif not users and folder.is_dir() and any(folder.iterdir()):
        return None  # somebody else's files: whose they are is not known, so they stay
    folder.mkdir(parents=True, exist_ok=True)
    if run_id not in users:
        with (folder / MARK).open("a") as mark:
            mark.write(f"{run_id}\n")
    return moved


def _users(folder: Path) -> list[str]:
    try:
        return (folder / MARK).read_text().split()
    except OSError:
        return []


def _free(folder: Path) -> Path:
    """A name beside the folder: ``0`` becomes ``0.attempt_0``, the next time ``0.attempt_1``."""
    number = 0
    while (moved := folder.with_name(f"{folder.name}.attempt_{number}")).exists():
        number += 1
    return moved
