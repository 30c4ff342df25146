"""What a worker process inherits from the driver, and what it knows about itself."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from trainers.reporting.script import VARIABLE

LOWEST = 19
"""The nicest that a process can be."""


def worker_environment(threads: int) -> dict[str, str]:
    """Variables that must be set before a worker imports torch: as many compute threads as results record. Of
    a sweep that is launched by a run of another, nothing is reported to that other one.
    """
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    return dict.fromkeys(names, str(threads)) | {"TOKENIZERS_PARALLELISM": "false", VARIABLE: ""}


OUR_ROOT = Path(__file__).resolve().parents[2]
"""Folder that holds our packages."""


def own_import_path(sweep: Path | None = None) -> tuple[str, ...]:
    """Folders outside the Python installation in which a trainer may lie: ours first, so that nothing of the
    same name replaces our packages, the current one last, and none inside the sweep directory ``sweep``.
    """
    return tuple(outside(dict.fromkeys([str(OUR_ROOT), *_searched(), str(Path.cwd())]), sweep))


def _searched() -> list[str]:
    """Folders of this process's import path outside the Python installation."""
    inside = (sys.prefix, sys.base_prefix)
    return [str(Path(p).resolve()) for p in sys.path if p and not p.startswith(inside)]


def outside(folders: Iterable[str], sweep: Path | None) -> list[str]:
    """The folders that are not inside a sweep directory: what lies there may be a stranger's."""
    if sweep is None:
        return list(folders)
    root = sweep.resolve()
    return [f for f in folders if Path(f).resolve() == OUR_ROOT or not Path(f).resolve().is_relative_to(root)]


def import_environment(folders: Iterable[str]) -> dict[str, str]:
    """Variables that say where a worker looks for modules: ours first, then what this process searches too.

    The current folder is not searched before the installation (``PYTHONSAFEPATH``) unless this process does;
    a worker appends it to its own path, last.
    """
    searched = {str(OUR_ROOT), *_searched()}
    return {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(f for f in folders if f in searched)}


def give_way() -> None:
    """Let all others go first, here and in every process started from here: processor and disk are taken only
    while nobody else wants them.
    """
    import psutil

    os.nice(LOWEST)
    with contextlib.suppress(OSError, AttributeError):  # Linux only
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        psutil.Process().ionice(psutil.IOPRIO_CLASS_IDLE)


def resident_gib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**30


def peak_resident_mib() -> float:
    """The most that this process has held; ``getrusage`` says of a fresh one what its parent held."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split(maxsplit=1)[0]) / 1024


def leave_if_forked(pid: int, outcome: object) -> None:
    """End a copy of the worker that a trainer forked and let return or raise: it is no worker, what it got no
    result. Its status is the one that a process of its own would have had.
    """
    if os.getpid() == pid:
        return
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    code = outcome.code if isinstance(outcome, SystemExit) else int(isinstance(outcome, BaseException))
    os._exit(code if isinstance(code, int) else int(code is not None))
