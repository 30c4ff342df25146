"""MLflow, through its own client. Owns ``mlflow/`` inside the sweep directory: ``mlflow.db`` where no server
is named. A copy carries its run_id as the tag ``emsweep.run_id``, by which a half-made one is found again.

The full package wants an older pandas than this project may have; the client alone does not.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from orchestrator.mirror.reading import is_number
from orchestrator.mirror.target import Destination, FinishedRun
from sweeps.grid.filters import as_text
from sweeps.spec.errors import UserError

TAG = "emsweep.run_id"
"""Tag that holds a copy's identity."""

BATCH = 1000
"""Metrics that MLflow takes at once."""

PAGE = 1000
"""Runs that it lists at once."""

MAX_PARAM = 6000
"""Longest parameter that MLflow stores."""


class MlflowTarget:
    """One experiment."""

    def __init__(self, client: Any, entities: Any, errors: Any, experiment: str) -> None:
        """Open the experiment, or make it.

        Raises:
            ConnectionError: when the server cannot be reached or answers with errors.
        """
        self._client, self._entities, self._errors = client, entities, errors
        with self._reaching():
            known = client.get_experiment_by_name(experiment)
            self._experiment = known.experiment_id if known else client.create_experiment(experiment)

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except self._errors.MlflowException as error:
            raise ConnectionError(str(error)) from error

    def clean(self, run_ids: Collection[str]) -> None:
        """Delete copies of these runs that are still open.

        Raises:
            ConnectionError: when the server cannot be reached or answers with errors.
        """
        with self._reaching():
            for run in self._open_runs():
                if run.data.tags.get(TAG) in run_ids:
                    self._client.delete_run(run.info.run_id)

    def _open_runs(self) -> list[Any]:
        runs: list[Any] = []
        token: str | None = ""
        while token is not None:
            page = self._client.search_runs(
                [self._experiment],
                "attributes.status = 'RUNNING'",
                max_results=PAGE,
                page_token=token or None,
            )
            runs += page
            token = page.token or None
        return runs

    def copy(self, run: FinishedRun) -> None:
        """Log one run.

        Raises:
            ConnectionError: when the server cannot be reached or answers with errors.
        """
        made = self._entities
        at_ms = int(run.finished_at * 1000)
        metrics = [
            made.Metric(key, float(value), at_ms, row["step"])
            for row in run.steps
            for key, value in row.items()
            if key != "step"
        ]
        metrics += [
            made.Metric(f"run.{k}", float(v), at_ms, 0) for k, v in run.summary.items() if is_number(v)
        ]
        params = [
            made.Param(k, as_text(v)[:MAX_PARAM]) for k, v in _flat({**run.config, "axes": dict(run.axes)})
        ]
        tags = {TAG: run.run_id, "emsweep.cell": str(run.cell), "emsweep.outcome": run.summary["outcome"]}
        with self._reaching():
            copy = self._client.create_run(self._experiment, start_time=at_ms, tags=tags, run_name=run.name)
            for start in range(0, max(len(metrics), len(params)), BATCH):
                self._client.log_batch(copy.info.run_id, metrics=metrics[start : start + BATCH])
            for start in range(0, len(params), 100):
                self._client.log_batch(copy.info.run_id, params=params[start : start + 100])
            self._client.set_terminated(copy.info.run_id, end_time=at_ms)

    def close(self) -> None:
        """Nothing is open between runs."""


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif value not in (None, "", []):
            yield f"{prefix}{key}", value


def open_target(where: Destination) -> MlflowTarget:
    """Open the experiment.

    Raises:
        UserError: when the client is not installed.
        ConnectionError: when the server cannot be reached.
    """
    try:
        from mlflow import entities, exceptions
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise UserError(
            "mirror --to mlflow needs MLflow's client: pip install 'emsweep[mlflow]', or "
            "mlflow-skinny sqlalchemy alembic"
        ) from error
    url = where.url or os.environ.get("MLFLOW_TRACKING_URI")
    if url is None:
        where.folder.mkdir(exist_ok=True)
        url = f"sqlite:///{where.folder / 'mlflow.db'}"
    return MlflowTarget(MlflowClient(tracking_uri=url), entities, exceptions, where.project)
