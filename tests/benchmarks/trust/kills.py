"""Drivers killed, stopped and joined by a second one that the removal of the lock let in: is any run doubled?

Every driver is a process of its own with the command line's code; it is forked from a server without threads
that has imported it already, which spares a second each.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import random
import signal
import tempfile
import time
from collections import Counter
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from analysis import open_sweep
from orchestrator.cli import main
from orchestrator.driver.session import Session
from orchestrator.inspect.verify import verify
from orchestrator.store.opening import open_manifest

IMPORTED = (Session, open_sweep)
"""What a driver needs: imported here, so that those that are forked have it."""

TRIALS = 200
"""Each with one fault at a random moment."""

RUNS = 40

WORDS = ("sweep=noop", f"sweep.n={RUNS}", "+trainer.params.duration_s=0.01", "+trainer.params.steps=1")

LONGEST_S = 120.0
"""A driver that takes longer hangs."""

FAULTS = ("remove the lock", "replace the lock", "kill", "kill the second", "stop, and wake when all is done")

server = multiprocessing.get_context("forkserver")
server.set_forkserver_preload([__name__])


def measure(num_trials: int = TRIALS, seed: int = 0) -> dict[str, Any]:
    """Disturb, finish, prove."""
    dice = random.Random(seed)
    found: Counter[str] = Counter()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="emsweep-kills-") as temporary:
        for number in range(num_trials):
            fault = FAULTS[number % len(FAULTS)]
            trial = _trial(Path(temporary) / f"sweep-{number}", fault, dice)
            found.update({key: value for key, value in trial.items() if isinstance(value, int)})
            if trial["doubled"] or trial["lost"] or trial["not_stopped"] or not trial["ok"]:
                wrong.append(f"{fault}: {trial}")
    names = ("doubled", "lost", "not_stopped", "fenced", "ok")
    return {"kills": num_trials, **{name: found[name] for name in names}, "wrong": wrong[:10]}


def _trial(folder: Path, fault: str, dice: random.Random) -> dict[str, Any]:
    first = _start("launch", *WORDS, "--dir", str(folder), "--pool", "inline", "--yes")
    _wait_for(folder, dice.randrange(RUNS // 2), first)
    time.sleep(dice.random() * 0.05)
    lock, codes = folder / "driver.lock", []
    if fault == "kill":
        first.kill()
    elif fault.startswith("stop"):
        os.kill(first.pid or 0, signal.SIGSTOP)
    if fault == "replace the lock":
        (folder / "new.lock").write_bytes(b"")
        (folder / "new.lock").rename(lock)
    elif fault != "kill":
        lock.unlink(missing_ok=True)
    second = _start("resume", str(folder))
    if fault == "kill the second":
        time.sleep(dice.random() * 0.4)
        second.kill()
    codes.append(_end(second))
    if fault.startswith("stop"):
        os.kill(first.pid or 0, signal.SIGCONT)
    first_code = _end(first)
    codes.append(_end(_start("resume", str(folder))))
    verdict = _prove(folder)
    return {
        "doubled": verdict["duplicated"],
        "lost": verdict["missing"],
        "fenced": verdict["fenced"],
        "not_stopped": int(fault != "kill" and first_code != 1),
        "ok": int(verdict["ok"]),
        "codes": [first_code, *codes],
        "damaged": verdict["damaged"],
    }


def _start(*words: str) -> ForkServerProcess:
    process = server.Process(target=_run, args=(words,))
    process.start()
    return process


def _run(words: tuple[str, ...]) -> None:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            status = main([*words, "--json"])
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
    os._exit(status)


def _end(process: ForkServerProcess) -> int | None:
    process.join(LONGEST_S)
    if process.is_alive():
        process.kill()
    process.join()
    return process.exitcode


def _wait_for(folder: Path, num: int, process: ForkServerProcess) -> None:
    """Wait until so many results are committed."""
    journal = folder / "spool" / "driver-00001.jsonl"
    until_s = time.monotonic() + LONGEST_S
    while process.is_alive() and time.monotonic() < until_s:
        if journal.exists() and journal.read_bytes().count(b'"done"') >= num:
            return
        time.sleep(0.005)


def _prove(folder: Path) -> dict[str, Any]:
    """What ``verify`` says, in a process of its own: this one is forked from."""
    reader, writer = server.Pipe(duplex=False)
    process = server.Process(target=_send_verdict, args=(folder, writer))
    process.start()
    found: dict[str, Any] = reader.recv()
    process.join()
    return found


def _send_verdict(folder: Path, writer: Connection) -> None:
    writer.send(verify(*open_manifest(folder)).to_json())
