"""What a worker process inherits from the driver, and what it knows about itself."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

LOWEST = 19
"""The nicest that a process can be."""


def worker_environment(threads: int) -> dict[str, str]:
    """Variables that must be set before a worker imports torch: as many compute threads as results record."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    return dict.fromkeys(names, str(threads)) | {"TOKENIZERS_PARALLELISM": "false"}


def own_import_path() -> tuple[str, ...]:
    """Folders of this process's import path outside the Python installation, and the current one."""
    inside = (sys.prefix, sys.base_prefix)
    folders = [str(Path(p).resolve()) for p in sys.path if p and not p.startswith(inside)]
    return tuple(dict.fromkeys([*folders, str(Path(__file__).parents[2]), str(Path.cwd())]))


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
    """Resident memory of this process in GiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**30
