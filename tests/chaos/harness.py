"""Real sweeps in processes of their own, to be killed, stopped, starved and lied to.

Every process started here carries a mark in its environment, so that what is left of it can be found, and has
a temporary folder of its own, so that what it leaves there can be seen.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

from orchestrator.inspect.verify import verify
from orchestrator.store.layout import TABLES
from orchestrator.store.opening import open_manifest
from tests.chaos.trainers import PACE
from trainers.protocol import TIMING_SUFFIX

MARK = "EMSWEEP_TEST_MARK"

EXEMPT = {"worker", "host", "attempt", "finished_at"}
"""Columns besides timings in which a disturbed sweep may differ from an undisturbed one."""

Numbers = dict[str, list[dict[str, Any]]]


class Tally:
    """Faults injected, and those after which everything was proved to be well, over the test session."""

    injected = 0
    survived = 0


class Marked:
    """Processes that share a mark and a temporary folder."""

    def __init__(self) -> None:
        self.mark = uuid.uuid4().hex
        self.temporary = Path(tempfile.mkdtemp(prefix="chaos"))  # short: sockets have short names
        self.environment = {**os.environ, MARK: self.mark, "TMPDIR": str(self.temporary)}

    def processes(self) -> list[psutil.Process]:
        """Everything alive that descends from what was started here."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess, OSError):
                continue
        return found

    def assert_nothing_left(self) -> None:
        """No process, socket or temporary file."""
        self.assert_no_process_left()
        assert not list(self.temporary.iterdir())

    def assert_no_process_left(self) -> None:
        """None; those that were killed a moment ago may still vanish."""
        until_s = time.monotonic() + 3
        while (left := self.processes()) and time.monotonic() < until_s:
            time.sleep(0.05)
        assert not left, [" ".join(filter(None, p.cmdline())) for p in left]

    def close(self) -> None:
        """Clean up, whatever a failed test left behind."""
        for process in self.processes():
            process.kill()
        shutil.rmtree(self.temporary, ignore_errors=True)


class Sweep(Marked):
    """One sweep directory and the commands run on it."""

    def __init__(self, folder: Path, *words: str, pool: str = "local", pace_s: float = 0.0) -> None:
        super().__init__()
        self.folder = folder
        self.words = words
        self.where = ["--pool", pool]
        self.prefix: list[str] = []
        """Command to start commands with."""
        self.num_faults = 0
        self._pace = self.temporary.with_suffix(".pace")  # beside it: what is inside counts as left over
        self.environment[PACE] = str(self._pace)
        self.pace(pace_s)

    def pace(self, seconds: float) -> None:
        """Let runs take that long from now on, the one under way included."""
        replacement = self._pace.with_suffix(".new")
        replacement.write_text(str(seconds))
        replacement.replace(self._pace)

    def close(self) -> None:
        """Clean up, whatever a failed test left behind."""
        super().close()
        self._pace.unlink(missing_ok=True)

    def fault(self, num: int = 1) -> None:
        """Count faults."""
        self.num_faults += num
        Tally.injected += num

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start one command in the background."""
        return subprocess.Popen(
            [*self.prefix, sys.executable, "-m", "orchestrator.cli", *command, "--json"],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def launch(self) -> subprocess.Popen[str]:
        """Start the sweep, or go on with it."""
        if (self.folder / "manifest.parquet").exists() and (self.folder / "sweep.yaml").exists():
            return self.start("resume", str(self.folder), *self.where)
        return self.start("launch", *self.words, "--dir", str(self.folder), *self.where, "--yes")

    def take_up(self, folder: Path) -> None:
        """Go on with a copy of another sweep's directory."""
        shutil.copytree(folder, self.folder)

    def finish(self, timeout_s: float = 120.0) -> dict[str, Any]:
        """Go on with the sweep to its end, undisturbed and as fast as it can."""
        self.pace(0.0)
        out, err = self.launch().communicate(timeout=timeout_s)
        assert out.strip(), err
        assert "error" not in json.loads(out), err
        return json.loads(out)

    def committed(self) -> int:
        """Results that the journals record so far."""
        found = 0
        for path in (self.folder / "spool").glob("driver-*.jsonl"):
            for line in path.read_bytes().split(b"\n"):
                if b'"kind":"accept"' in line:
                    found += line.count(b'"done",') + line.count(b'"diverged",')
        return found

    def wait_for(self, num: int, process: subprocess.Popen[str], timeout_s: float = 60.0) -> None:
        """Wait until so many results are committed."""
        wait_until(lambda: self.committed() >= num or process.poll() is not None, timeout_s)
        assert process.poll() is None, process.communicate()[1]

    def workers(self) -> list[psutil.Process]:
        """The processes that train now."""
        return [p for p in self.processes() if is_worker(p)]

    def verify(self) -> dict[str, Any]:
        """What ``verify`` says, without the second that a process takes to start."""
        return verify(*open_manifest(self.folder)).to_json()

    def numbers(self) -> Numbers:
        """Every stored number of every table, timings apart, in the order of the manifest."""
        return {name: _rows(self.folder / f"{name}.parquet") for name in TABLES}

    def prove(self, reference: Numbers) -> None:
        """Finish, and show that nothing was lost, doubled, changed or left behind."""
        self.finish()
        verdict = self.verify()
        assert verdict["ok"], verdict
        assert verdict["committed"] == verdict["expected"]
        assert self.numbers() == reference
        self.assert_nothing_left()
        hidden = [p for p in self.folder.rglob(".*") if p.is_file()]
        assert not hidden, hidden
        Tally.survived += self.num_faults
        self.num_faults = 0


def _rows(table: Path) -> list[dict[str, Any]]:
    if not table.exists():
        return []
    rows = [
        {k: v for k, v in row.items() if k not in EXEMPT and not k.endswith(TIMING_SUFFIX)}
        for row in pq.read_table(table).to_pylist()
    ]
    return sorted(rows, key=lambda row: (row["index"], row.get("step", 0), row.get("mode", "")))


def is_worker(process: psutil.Process) -> bool:
    """Whether a process trains."""
    try:
        words = process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False
    return "orchestrator.pools.child" in words or (bool(words) and words[0].startswith("ray::RayWorker"))


def wait_until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Wait until something holds."""
    until_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until_s, f"waited {timeout_s:g} s in vain"
        time.sleep(0.02)


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL, and wait for the end."""
    process.send_signal(signal.SIGKILL)
    process.communicate()
