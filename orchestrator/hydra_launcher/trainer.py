"""A job of a Hydra application, as a trainer: the run is one call of its task."""

from __future__ import annotations

import base64
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cloudpickle
from hydra.core.utils import JobReturn, run_job
from omegaconf import open_dict

from orchestrator.hydra_launcher.application import Application, load
from orchestrator.hydra_launcher.configurations import Configurations, json_value
from orchestrator.hydra_launcher.output_folder import begin_attempt
from orchestrator.trust.signing import sign
from sweeps.spec import RunSpec
from trainers.protocol import RunContext, RunResult, WorkerContext
from trainers.returned import RETURNED, result_of


class HydraJob:
    """Calls the task of an application, which stays loaded."""

    def __init__(self, context: WorkerContext) -> None:
        self._application: Application | None = None
        self._configurations: Configurations | None = None

    def run(self, spec: RunSpec, context: RunContext) -> RunResult:
        """Compose the job's configuration and call the task, with its output folder and logging as usual.

        Raises:
            Exception: whatever the task raises.
        """
        assert context.sweep_dir is not None
        if self._application is None or self._configurations is None:
            self._application = load(context.sweep_dir)
            loader, master = self._application.context.config_loader, self._application.config
            self._configurations = Configurations(loader, master)
        elif spec.run_id not in self._application.words:  # of a sweeper's later batch; the task stays warm
            words = load(context.sweep_dir).words
            self._application = replace(self._application, words=words)
        application = self._application
        number, overrides = application.words[spec.run_id]
        started_s = time.perf_counter()
        config = self._configurations.config(overrides)
        with open_dict(config):
            config.hydra.job.id = f"{config.hydra.job.name}_{number}"
            config.hydra.job.num = number
        folder = Path(str(config.hydra.sweep.dir)) / str(config.hydra.sweep.subdir)
        if (before := begin_attempt(folder, spec.run_id)) is not None:
            print(f"the files of the attempt before are in {before}", file=sys.stderr)
        job = run_job(
            hydra_context=application.context,
            task_function=application.task,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
        value = job.return_value  # raises what the task raised
        wall_s = time.perf_counter() - started_s
        return RunResult(
            outcome="done",
            metrics={**metrics_of(value), "wall_s": wall_s},
            layout=_record(spec.run_id, job, value),
        )

    def close(self) -> None:
        self._application = self._configurations = None


def metrics_of(value: Any) -> dict[str, float | int | str | None]:
    """What a table can hold of a task's value: a number or text, those of a mapping, or those of a sequence,
    such as several objectives. The rest, of which the job's log tells, is in the returned value alone.
    """
    if isinstance(value, Mapping):
        parts = {key: {key: part} for key, part in value.items()}
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        parts = {key: {f"{RETURNED}.{key}": part} for key, part in enumerate(value)}
    else:
        parts = {} if value is None else {RETURNED: {RETURNED: value}}
    metrics: dict[str, float | int | str | None] = {}
    for key, part in parts.items():
        try:
            metrics |= result_of(part).metrics
        except (TypeError, ValueError) as error:
            print(f"not in the table of runs: what the task returned as {key!r}: {error}", file=sys.stderr)
    return metrics


def _record(run_id: str, job: JobReturn, value: Any) -> dict[str, Any]:
    """What the launcher needs to tell Hydra of the job, now and when the sweep is launched again."""
    assert job.hydra_cfg is not None
    hydra = job.hydra_cfg.hydra
    saved = hydra.output_subdir
    returned = {"returned": value} if is_json(value) else _pickled(run_id, value)
    return returned | {
        "overrides": json_value(job.overrides),
        "working_dir": job.working_dir,
        "task_name": job.task_name,
        "saved": str(Path(hydra.runtime.output_dir) / saved) if saved is not None else None,
    }


def is_json(value: Any) -> bool:
    """Whether JSON gives a value back as it is."""
    if type(value) is dict:
        return all(type(k) is str and is_json(v) for k, v in value.items())
    if type(value) is list:
        return all(map(is_json, value))
    return type(value) in (bool, int, str, type(None)) or (type(value) is float and math.isfinite(value))


def _pickled(run_id: str, value: Any) -> dict[str, Any]:
    """A value that JSON cannot hold, signed: the launcher loads no pickle that this user has not written."""
    data = cloudpickle.dumps(value)
    return {"pickled": base64.b64encode(data).decode(), "signature": sign(run_id, data)}
