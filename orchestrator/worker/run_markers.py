"""Lines in a worker's log that say which attempt printed what, and how to find one run's part again.

::

    === run 3f…e1 attempt 0 begins at 2026-11-30T06:12:01Z
    --- run 3f…e1 attempt 0 says: step 3 of 10
    === run 3f…e1 attempt 0 ends: done

Runs that a trainer computes together begin together: what is printed until one of them ends is the output of
each. Where a process is killed no end follows; the log is its own, and ends there too.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Collection, Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from sweeps.spec.printable import printable
from sweeps.spec.redaction import redact

MAX_WORDS = 200
"""Characters kept of what a heartbeat says."""

_BEGINS = re.compile(r"=== run (\S+) attempt (\d+) begins at ([\dT:-]+Z)$")
_ENDS = re.compile(r"=== run (\S+) attempt (\d+) ends: ")
_SAYS = re.compile(r"--- run (\S+) attempt (\d+) says: (.*)")

STREAMS = (1, 2)
"""Standard output and standard error."""


class RunMarkers:
    """Marks the log that this process's own output goes to; does nothing in a process whose output does not,
    such as the driver's.
    """

    def __init__(self, log: Path) -> None:
        self._fd = next((fd for fd in STREAMS if _is_same(fd, log)), None)
        self._said: tuple[str, int, object] | None = None
        self._words = ""
        self._late = ""
        self._num_open = 0

    def begins(self, run_id: str, attempt: int) -> None:
        self._num_open += 1
        self._said, self._words = None, ""
        if self._fd is None:
            return
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._write(f"=== run {run_id} attempt {attempt} begins at {at}\n")

    def says(self, run_id: str, attempt: int, words: object) -> None:
        """Keep what a heartbeat says; trainers beat at every step, so that nothing is written here."""
        self._said = run_id, attempt, words

    def heard(self) -> str:
        """Put what was said last into the log, and return it as it may be shown; called once a second."""
        if self._late:
            self._write("")
        if words := self._write_words():
            self._words = redact(words, os.environ, hexadecimal=False)
        return self._words

    def _write_words(self) -> str:
        said, self._said = self._said, None
        if said is None:
            return ""
        words = printable(" ".join(str(said[2]).split())[:MAX_WORDS])
        if words:
            self._write(f"--- run {said[0]} attempt {said[1]} says: {words}\n")
        return words

    def ends(self, run_id: str, attempt: int, outcome: str) -> None:
        """Say so in one write with what comes next: a run may take less time than a write."""
        self._num_open = max(0, self._num_open - 1)
        if self._fd is None:
            self._said, self._words = None, ""
            return
        self._write_words()
        self._words = ""
        self._flush()
        self._late += f"=== run {run_id} attempt {attempt} ends: {outcome}\n"
        if self._num_open:  # what is printed from here on is that of others
            self._write("")

    def _write(self, line: str) -> None:
        if self._fd is None:
            return
        self._flush()
        late, self._late = self._late, ""
        with contextlib.suppress(OSError):  # a full disk
            os.write(self._fd, (late + line).encode())

    def _flush(self) -> None:
        """What the run has printed comes before the marker."""
        if self._fd is None:
            return
        with contextlib.suppress(OSError, ValueError):  # a full disk, a stream that the trainer has closed
            sys.stdout.flush()
            sys.stderr.flush()


def _is_same(fd: int, log: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), log.stat())
    except OSError:
        return False


def is_marker(line: str) -> bool:
    """Whether a line of a worker's log was written here, and not by what it runs."""
    return any(kind.match(line) for kind in (_BEGINS, _ENDS, _SAYS))


class OutputLine(NamedTuple):
    """One line of an attempt's part of a log."""

    run_id: str
    attempt: int
    began_at: float
    """When the attempt began, as its marker says, Unix seconds."""
    text: str


def output_of(log: Path, run_ids: Collection[str]) -> Iterator[OutputLine]:
    """What the attempts of these runs printed into a worker's log; runs computed together each have all."""
    at_work: dict[str, tuple[int, float]] = {}
    with contextlib.suppress(OSError), log.open(errors="replace") as lines:
        for line in lines:
            if begins := _BEGINS.match(line):
                if begins[1] in run_ids:
                    began = datetime.fromisoformat(begins[3]).timestamp()
                    at_work[begins[1]] = int(begins[2]), began
            elif ends := _ENDS.match(line):
                at_work.pop(ends[1], None)
            elif not _SAYS.match(line):
                for run_id, (attempt, began) in at_work.items():
                    yield OutputLine(run_id, attempt, began, line.rstrip("\n"))


def newest_words(log: Path, run_id: str) -> str:
    """What a run said last into a worker's log; empty if it said nothing."""
    words = ""
    with contextlib.suppress(OSError), log.open(errors="replace") as lines:
        for line in lines:
            if (says := _SAYS.match(line)) and says[1] == run_id:
                words = says[3]
    return words
