"""Real sweeps in processes of their own, to be killed, stopped, starved and lied to.

Every process started here carries a mark in its environment, so that what is left of it can be found, and has
a temporary folder of its own, so that what it leaves there can be seen.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

MARK = "EMSWEEP_TEST_MARK"

NUMBERS_EXEMPT = {"wall_s", "worker", "host", "attempt", "finished_at"}
"""Columns of ``runs`` in which a disturbed sweep may differ from an undisturbed one."""


class Tally:
    """Faults injected and survived, printed at the end of the test session."""

    injected = 0
    survived = 0


class Sweep:
    """One sweep directory and the commands run on it."""

    def __init__(self, folder: Path, *words: str, pool: str = "local") -> None:
        self.folder = folder
        self.words = words
        self.pool = pool
        self.mark = uuid.uuid4().hex
        self.temporary = Path(tempfile.mkdtemp(prefix="chaos"))  # short: sockets have short names
        self.environment = {**os.environ, MARK: self.mark, "TMPDIR": str(self.temporary)}
        self.num_faults = 0

    def fault(self) -> None:
        """Count a fault."""
        self.num_faults += 1
        Tally.injected += 1

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start one command in the background."""
        return subprocess.Popen(
            [sys.executable, "-m", "orchestrator.cli", *command, "--json"],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def launch(self) -> subprocess.Popen[str]:
        """Start the sweep, or go on with it."""
        if (self.folder / "manifest.parquet").exists() and (self.folder / "sweep.yaml").exists():
            return self.start("resume", str(self.folder), "--pool", self.pool)
        return self.start("launch", *self.words, "--dir", str(self.folder), "--pool", self.pool, "--yes")

    def finish(self, timeout_s: float = 120.0) -> dict[str, Any]:
        """Go on with the sweep to its end, undisturbed."""
        out, err = self.launch().communicate(timeout=timeout_s)
        assert out.strip(), err
        return json.loads(out)

    def committed(self) -> int:
        """Results that the journals record so far."""
        found = 0
        for path in (self.folder / "spool").glob("driver-*.jsonl"):
            for line in path.read_bytes().split(b"\n"):
                if b'"kind":"accept"' in line:
                    found += line.count(b'"done"]') + line.count(b'"diverged"]')
        return found

    def wait_for(self, num: int, process: subprocess.Popen[str], timeout_s: float = 60.0) -> None:
        """Wait until so many results are committed."""
        until_s = time.monotonic() + timeout_s
        while self.committed() < num:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < until_s, f"{self.committed()} of {num} results"
            time.sleep(0.02)

    def workers(self) -> list[psutil.Process]:
        """The processes that train now."""
        return [p for p in self.processes() if _is_worker(p)]

    def processes(self) -> list[psutil.Process]:
        """Everything alive that descends from our commands."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess, OSError):
                continue
        return found

    def verify(self) -> dict[str, Any]:
        """What ``verify`` says."""
        out, err = self.start("verify", str(self.folder)).communicate(timeout=60)
        assert out.strip(), err
        return json.loads(out)

    def numbers(self) -> list[dict[str, Any]]:
        """Every stored number of every run, timings apart."""
        rows = pq.read_table(self.folder / "runs.parquet").to_pylist()
        return [{k: v for k, v in row.items() if k not in NUMBERS_EXEMPT} for row in rows]

    def prove(self, reference: list[dict[str, Any]]) -> None:
        """Finish, and show that nothing was lost, doubled, changed or left behind."""
        self.finish()
        verdict = self.verify()
        assert verdict["ok"], verdict
        assert verdict["committed"] == verdict["expected"]
        assert self.numbers() == reference
        self.assert_nothing_left()
        Tally.survived += self.num_faults
        self.num_faults = 0

    def assert_nothing_left(self) -> None:
        """No process, no temporary file."""
        until_s = time.monotonic() + 10
        while (left := self.processes()) and time.monotonic() < until_s:
            time.sleep(0.1)
        assert not left, [p.cmdline() for p in left]
        assert not list(self.temporary.iterdir())
        hidden = [p for p in self.folder.rglob(".*") if p.is_file()]
        assert not hidden, hidden


def _is_worker(process: psutil.Process) -> bool:
    try:
        words = process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False
    return "orchestrator.pools.child" in words or (bool(words) and words[0].startswith("ray::RayWorker"))


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL, and wait for the end."""
    process.send_signal(signal.SIGKILL)
    process.communicate()
