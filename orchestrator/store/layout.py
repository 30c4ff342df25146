"""The sweep directory: every path in it and what each file means. This docstring specifies the format.

::

    sweep.yaml                      what was asked: format version, overrides, options, package versions, host
    manifest.parquet                one row a run, in order (:mod:`sweeps.manifest.manifest_file`)
    spool/driver-<epoch>.jsonl      the driver's journal, one file a driver's life (:mod:`.records`)
    spool/<worker>.jsonl            results, one file a worker process (:mod:`.spool`)
    reports/<worker>.jsonl          what trainers reported while they trained (:mod:`.reports`), written at
                                    once and not synced; there only where something was reported
    state.sqlite                    index of the spools, WAL, one writer; may be deleted (:mod:`.state`);
                                    elsewhere if this is on a network file system (:mod:`.sqlite_path`)
    digests.json                    SHA-256 of every file that is read as a whole (:mod:`.digests`)
    status.json                     counts, rate and ETA, replaced about once a second while a driver lives
    job.json                        the job of a queue that the sweep was handed to last (:mod:`.job_note`)
    meeting.json, ray-token         where that job's nodes find its Ray, and its secret (:mod:`.meeting`)
    driver.lock                     flock held by the driver; its text names host and pid of the last holder
    driver.claim                    stands in for it on a file system without locks (:mod:`.lock`)
    control/<verb>-*.json           requests to a live driver, which removes them (:mod:`.control`)
    parts/<table>-<n>.parquet       compacted results so far; a part counts once its ``runs`` table exists
    <table>.parquet                 compacted results, written when a driver ends (:mod:`.compaction`)
    checkpoints/<run_id>/           weights that the retention policy keeps
    logs/driver-<epoch>.log         what a driver decided, a line each with its time; bounded: older lines are
                                    in ``driver-<epoch>.old.log``, still older ones are gone
    logs/<run_id>/attempt_<n>.log   traceback of a failed attempt; of a command also what it printed
    work/<run_id>/attempt_<n>/      the folder that a command ran in, as it left it (:mod:`trainers.command`)
    damaged/                        what ``emsweep repair`` took out of the way, byte for byte
    logs/workers/<worker>.log       output of a worker process, with the stacks of one that crashed or hung;
                                    lines in ``===`` say which run printed what (``worker/run_markers.py``)

**Truth** is the spools, journal included, and they hold ``sweep.yaml`` and ``manifest.parquet`` too
(:mod:`.frozen`): everything else can be deleted and is rebuilt from them, tables by ``resume`` and all by
``repair``. A line of a spool is one JSON object, one ``write()``, and begins with a checksum of the rest of
it.

A run is **committed** by an ``accept`` record of the journal that points at a valid ``result`` line; the
first one wins. A valid result that no journal mentions yet, because its driver died, is adopted by the next
driver.

**Tables.** ``runs``: one row per manifest run: ``index, run_id, name, cell, outcome`` (one of
:data:`OUTCOMES`), ``attempt, worker, host, finished_at`` (Unix seconds), the axes under their Hydra keys,
every metric, ``error, fingerprint``. ``steps``: ``index, run_id, step`` and the trainer's columns. ``items``:
one row per run and evaluation: ``index, run_id, benchmark, step, mode, temperature, num_samples, correct,
strict, boxed, truncated, tokens``, the last five ``list<int32>`` over the items. ``rollouts``: ``index,
run_id, step, prompt, text, count``. ``logits``: ``index, run_id`` and the keys of
:meth:`trainers.step.logit_stats.LogitStats.to_json`. Rows of all but ``runs`` come in order of completion. A
table without rows is not written.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from orchestrator.store.outcomes import Outcome
from sweeps.manifest.atomic import is_temporary, make_folder
from sweeps.spec.errors import UserError

FORMAT_VERSION = 2
"""Version of everything this docstring describes, stored as ``format`` in ``sweep.yaml`` and in the ``epoch``
record of each journal. Version 1 had no times in most journal records, no ``end`` and ``manifest`` records,
called the failure class ``oom`` ``memory``, and did not say in ``runs.parquet`` which other tables there are.
"""

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
"""What can be said of a run."""

TABLES = ("runs", "steps", "items", "rollouts", "logits")
"""Names of the Parquet tables."""


JOURNAL = re.compile(r"driver-(\d{5,})\.jsonl")
"""Names of journals; any other file that begins so is a stranger's, such as a copy."""


def epoch_of(journal: Path) -> int:
    """The driver's life that a journal tells of."""
    return int(journal.stem.removeprefix("driver-"))


@dataclass(frozen=True)
class Layout:
    """Paths of one sweep directory."""

    root: Path
    """The sweep directory."""

    @property
    def config(self) -> Path:
        """``sweep.yaml``."""
        return self.root / "sweep.yaml"

    @property
    def manifest(self) -> Path:
        """``manifest.parquet``."""
        return self.root / "manifest.parquet"

    @property
    def spools(self) -> Path:
        """Folder of the spools."""
        return self.root / "spool"

    @property
    def reports(self) -> Path:
        """Folder of what trainers reported."""
        return self.root / "reports"

    @property
    def state(self) -> Path:
        """``state.sqlite``."""
        return self.root / "state.sqlite"

    @property
    def status(self) -> Path:
        """``status.json``."""
        return self.root / "status.json"

    @property
    def job(self) -> Path:
        """``job.json``."""
        return self.root / "job.json"

    @property
    def meeting(self) -> Path:
        """``meeting.json``."""
        return self.root / "meeting.json"

    @property
    def ray_token(self) -> Path:
        """``ray-token``."""
        return self.root / "ray-token"

    @property
    def digests(self) -> Path:
        """``digests.json``."""
        return self.root / "digests.json"

    @property
    def damaged(self) -> Path:
        """Folder of what was taken out of the way."""
        return self.root / "damaged"

    @property
    def lock(self) -> Path:
        """``driver.lock``."""
        return self.root / "driver.lock"

    @property
    def control(self) -> Path:
        """Folder of requests to a live driver."""
        return self.root / "control"

    @property
    def parts(self) -> Path:
        """Folder of the Parquet parts."""
        return self.root / "parts"

    def driver_log(self, epoch: int) -> Path:
        """What the driver of ``epoch`` decided."""
        return self.root / "logs" / f"driver-{epoch:05d}.log"

    @property
    def worker_logs(self) -> Path:
        """Folder of the worker processes' logs."""
        return self.root / "logs" / "workers"

    def journal(self, epoch: int) -> Path:
        """The journal of the driver of ``epoch``."""
        return self.spools / f"driver-{epoch:05d}.jsonl"

    def journal_paths(self) -> list[Path]:
        """The drivers' journals, by epoch."""
        found = (p for p in self.spools.glob("driver-*.jsonl") if JOURNAL.fullmatch(p.name) and p.is_file())
        return sorted(found, key=epoch_of)

    def spool(self, worker: str) -> Path:
        """The spool of one worker process."""
        return self.spools / f"{worker}.jsonl"

    def report_file(self, worker: str) -> Path:
        """What the trainers of one worker process reported."""
        return self.reports / f"{worker}.jsonl"

    def table(self, name: str) -> Path:
        """A compacted table."""
        return self.root / f"{name}.parquet"

    def part(self, name: str, number: int) -> Path:
        """One part of a table."""
        return self.parts / f"{name}-{number:05d}.parquet"

    def attempt_log(self, run_id: str, attempt: int) -> Path:
        """Traceback of one failed attempt."""
        return self.root / "logs" / run_id / f"attempt_{attempt}.log"

    def checkpoints(self, run_id: str) -> Path:
        """Folder of one run's weights."""
        return self.root / "checkpoints" / run_id

    def create(self) -> None:
        """Make the directory and its folders.

        Raises:
            UserError: when it cannot be made or written to.
        """
        try:
            for folder in (self.root, self.spools, self.control, self.parts, self.worker_logs):
                make_folder(folder)
            self.require_writable()
        except (OSError, NotADirectoryError) as error:
            raise UserError(_not_writable(self.root, error)) from error

    def require_writable(self) -> None:
        """Raise :class:`UserError` unless a file can be made in the directory."""
        probe = self.root / f".probe-{os.getpid()}"
        try:
            probe.write_bytes(b"")
            probe.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(_not_writable(self.root, error)) from error

    def require_plain_files(self) -> None:
        """Raise :class:`UserError` for anything but files, folders and links to such."""
        entries = list(os.scandir(self.root)) if self.root.is_dir() else []
        for entry in entries:
            if not (entry.is_file() or entry.is_dir()) and Path(entry.path).exists():
                raise UserError(
                    f"{entry.path}: is a pipe, socket or device, and reading it might never end; remove it"
                )

    @property
    def is_blank(self) -> bool:
        """Whether it holds nothing but what a launch leaves that was killed before it had frozen its runs."""
        ours = (self.config, self.digests, self.lock, self.meeting, self.ray_token)
        return all(p in ours or p.is_dir() or _is_stale(p) for p in self.root.rglob("*"))

    def remove_stale(self) -> list[str]:
        """Remove files that a killed process was about to write, and name them; only for the holder of the
        lock.
        """
        removed = []
        for folder in (self.root, self.parts, self.control, self.spools):
            for path in folder.glob(".*"):
                if _is_stale(path) and not path.is_dir():
                    path.unlink(missing_ok=True)
                    removed.append(path.relative_to(self.root).as_posix())
        return removed


def _is_stale(path: Path) -> bool:
    """Whether a file is a probe, or one that was to replace another."""
    of_format_1 = (".sweep.yaml.", ".manifest.parquet.", ".status.json.")
    return path.name.startswith((".probe-", *of_format_1)) or is_temporary(path)


def _not_writable(root: Path, error: OSError) -> str:
    return f"directory {str(root)!r}: cannot be written ({error.strerror}); choose another with --dir"
