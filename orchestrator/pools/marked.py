"""Processes that carry a mark: a variable of their environment, which whatever they start inherits, also in a
session of its own.

Run as a file, ``python -I -S marked.py NAME=VALUE``, it is a guard: it waits for the process that started it
to end, however that ends, and then ends all that carry the mark. It imports nothing of ours, so that it
starts in a few milliseconds and holds little.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

FOLDER = "EMSWEEP_FOLDER"
"""Variable that names the temporary folder of the driver that a process belongs to."""

WORKER = "EMSWEEP_WORKER"
"""Variable that names the worker that a process belongs to: a folder of its own, or a unique word."""

END_WAIT_S = 5.0
"""Time that killed processes get to vanish; they need milliseconds."""

LOOK_S = 1.0
"""Period of looking whether the parent is still there, on kernels before 5.3."""


def end_marked(mark: str) -> None:
    """Kill the processes that carry a mark, and wait until they have gone."""
    until_s = time.monotonic() + END_WAIT_S
    while (pids := marked(mark)) and time.monotonic() < until_s:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def marked(mark: str) -> list[int]:
    """Living processes that carry a mark, ``NAME=VALUE``; this one apart."""
    wanted, pids = mark.encode(), []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # gone already, or another user's; a zombie's is empty
            if wanted in environ.read_bytes().split(b"\0"):
                pids.append(int(environ.parent.name))
    return [pid for pid in pids if pid != os.getpid()]


def start_guard(mark: str) -> subprocess.Popen[bytes]:
    """Start a guard that ends all that carry a mark once this process has ended."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, mark, str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        env={k: v for k, v in os.environ.items() if k == "LD_LIBRARY_PATH"},  # it carries no mark itself
    )


def wait_for_end(pid: int) -> None:
    """Wait until the process that started this one has ended."""
    with contextlib.suppress(OSError, AttributeError):
        fd = os.pidfd_open(pid)
        if os.getppid() == pid:
            select.select([fd], [], [])
    while os.getppid() == pid:
        time.sleep(LOOK_S)


if __name__ == "__main__":
    wait_for_end(int(sys.argv[2]))
    end_marked(sys.argv[1])
