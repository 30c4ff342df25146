"""What early stopping is asked in full: its pruner and the metric that runs are compared by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.planning.asked_metric import asked_metric
from orchestrator.store.run_index import RunIndex
from sweeps.deciding.stopping import EarlyStopping
from sweeps.manifest.manifest import Manifest
from sweeps.spec.errors import SpecError
from sweeps.spec.metrics import MetricInfo
from sweeps.spec.prune_rules import PruneSpec, prune_of
from sweeps.spec.search_rules import race_of


@dataclass(frozen=True, kw_only=True)
class PruneQuestion:
    """A pruner and the metric that runs are compared by."""

    spec: PruneSpec
    metric: str
    info: MetricInfo

    def begin(self) -> EarlyStopping:
        """The pruner, told nothing yet."""
        return EarlyStopping(self.spec, maximize=self.info.direction != "min")

    @property
    def rule(self) -> dict[str, Any]:
        """What a run is stopped by, as records have it."""
        return {**self.spec.to_json(), "metric": self.metric}

    def __str__(self) -> str:
        way = "lowest" if self.info.direction == "min" else "highest"
        begins = f"{self.spec.kind} for the {way} {self.metric}, from step {self.spec.min_steps} on"
        return f"{begins}; what it saves is not known beforehand"


def stopped_again(manifest: Manifest, book: RunIndex) -> list[int]:
    """Runs that were stopped and are to go to their end: all of them, where nothing is stopped any more."""
    return [] if prune_of(manifest.options) else book.stopped()


def prune_question(manifest: Manifest, said: Mapping[str, Any] | None = None) -> PruneQuestion | None:
    """The early stopping that a manifest's options ask for, ``None`` where every run goes on to its end.

    Args:
        said: what the trainers' classes say of their metrics.

    Raises:
        SpecError: for a metric that is unknown or has no better end, beside a race, and where Optuna is not
            installed.
    """
    spec = prune_of(manifest.options)
    if spec is None:
        return None
    if race_of(manifest.options) is not None:
        raise SpecError(
            f"prune={spec.kind}: stops the seeds that do badly, so that those left would make a race see an "
            "effect where there is luck; leave out prune or search=race"
        )
    asked = asked_metric(manifest, spec.metric, spec.kind, said, option="prune")
    if asked.info.direction == "none":
        raise SpecError(
            f"prune.metric={asked.name}: which way it is better is not said; add "
            f"trainer.metrics.{asked.name}: {{direction: max}} or min"
        )
    question = PruneQuestion(spec=spec, metric=asked.name, info=asked.info)
    question.begin()
    return question
