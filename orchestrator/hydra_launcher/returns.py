"""What became of the jobs, as Hydra wants to hear it: one ``JobReturn`` each."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cloudpickle
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException
from omegaconf import DictConfig, OmegaConf

from orchestrator.hydra_launcher.jobs import Job
from orchestrator.store.layout import OUTCOMES, Layout
from orchestrator.store.run_index import STOPPED, RunIndex
from orchestrator.store.spool import LineReader
from orchestrator.trust.consent import consent_of
from orchestrator.trust.signing import is_ours
from orchestrator.trust.trusted import Need
from sweeps.spec.errors import UserError

HEAD = "Traceback (most recent call last):"
"""What the traceback of each exception begins with."""

_FRAME = re.compile(r'  File "')
_RUN_JOB = re.compile(r'  File ".*hydra/core/utils\.py", line \d+, in run_job')


class JobFailedError(CompactHydraException, RuntimeError):
    """A job that has no result, all retries included; the message is the traceback of what its task raised,
    which Hydra shows as it is.
    """


class Finished(JobReturn):
    """A job with a result. Its configurations are read from its output folder when somebody asks."""

    def __init__(self, run_id: str, record: Mapping[str, Any]) -> None:
        self._saved = record["saved"]
        self.overrides = record["overrides"]
        self.working_dir = record["working_dir"]
        self.task_name = record["task_name"]
        self.status = JobStatus.COMPLETED
        self._return_value = record["returned"] if "returned" in record else _unpickled(run_id, record)

    @property
    def cfg(self) -> DictConfig | None:  # type: ignore[override]
        """The job's configuration; ``None`` when Hydra was told not to save it."""
        return self._load("config.yaml")

    @property
    def hydra_cfg(self) -> DictConfig | None:  # type: ignore[override]
        return self._load("hydra.yaml")

    def _load(self, name: str) -> DictConfig | None:
        path = Path(self._saved or "") / name
        config = OmegaConf.load(path) if self._saved and path.is_file() else None
        return config if isinstance(config, DictConfig) else None


def _unpickled(run_id: str, record: Mapping[str, Any]) -> Any:
    """What a job returned, loaded only if this user's own job wrote it, or this user trusts who did."""
    data = base64.b64decode(record["pickled"])
    if not is_ours(run_id, data, record.get("signature")) and not consent_of().covers(Need("pickle", "")):
        raise UserError(
            f"run {run_id}: what it returned is pickled, and this user's own job has not written it; if you "
            "trust who did, set EMSWEEP_ALLOW_TARGETS=orchestrator, otherwise give another directory"
        )
    return cloudpickle.loads(data)


def job_return(job: Job, index: int, book: RunIndex, layout: Layout, lines: LineReader) -> JobReturn:
    """What became of one job; one that was stopped early returns the value that it was stopped by."""
    if book.committed(index):
        line = lines.read(book.spools[book.spool[index]], *book.location(index))
        if line is not None:
            return Finished(book.run_ids[index], line.result()["layout"])
    if book.outcome[index] == STOPPED:
        return JobReturn(
            overrides=list(job.overrides), status=JobStatus.COMPLETED, _return_value=book.stops[index].value
        )
    return JobReturn(
        overrides=list(job.overrides),
        status=JobStatus.FAILED,
        _return_value=JobFailedError(_reason(index, book, layout)),
    )


def _reason(index: int, book: RunIndex, layout: Layout) -> str:
    note = book.notes.get(index)
    if note is None:
        return f"has no result ({OUTCOMES[book.outcome[index]]}); the same command again runs it"
    log = layout.attempt_log(book.run_ids[index], note.attempt)
    try:
        told = users_part(log.read_text(errors="replace")).strip()
    except OSError:
        told = note.failure.message
    return f"{told}\n\nall of it is in {log}"


def users_part(traceback: str) -> str:
    """A traceback without the frames of the worker and of Hydra that lead to the task."""
    blocks = traceback.split(HEAD)
    return HEAD.join([blocks[0], *map(_below_task, blocks[1:])])


def _below_task(block: str) -> str:
    """One exception's frames and words, from the task's first frame on."""
    lines = block.splitlines(keepends=True)
    starts = [i for i, line in enumerate(lines) if _FRAME.match(line)]
    inside = [i for i, line in enumerate(lines) if _RUN_JOB.match(line)]
    first = next((i for i in starts if inside and i > inside[-1]), None)
    return block if first is None else "\n" + "".join(lines[first:])
