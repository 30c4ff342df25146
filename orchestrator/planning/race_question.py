"""What a race asks in full, its metric filled in, found to be answerable by the runs of this sweep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.scheduling.sweep_race import SweepRace
from orchestrator.store.decisions import rule_of, standing
from orchestrator.store.records import DecisionRecord
from orchestrator.store.run_index import RunIndex
from sweeps.manifest.manifest import Manifest
from sweeps.spec.errors import SpecError
from sweeps.spec.metrics import MetricInfo, metric_info
from sweeps.spec.search_rules import RaceSpec, race_of, require_metric
from trainers.metrics import HEADLINE_METRICS, SHIPPED, shipped_metric


@dataclass(frozen=True, kw_only=True)
class RaceQuestion:
    """A race and the metric that decides it."""

    spec: RaceSpec
    metric: str
    info: MetricInfo

    def begin(self, manifest: Manifest) -> SweepRace:
        """The race over these runs, without a result yet."""
        return SweepRace(manifest, self.spec, self.info)

    def rule(self, manifest: Manifest) -> dict[str, Any]:
        """What decisions about these runs are taken by."""
        return rule_of(self.spec, self.metric, manifest)

    def standing(self, manifest: Manifest, book: RunIndex) -> dict[tuple[int, ...], DecisionRecord]:
        """Decisions of earlier drivers that hold for this question about these runs, by their cells."""
        return standing(book.decisions, manifest, self.rule(manifest))

    def require_in_range(self, value: float) -> None:
        """Refuse a value that the metric is said not to take.

        Raises:
            SpecError: naming the value and the range.
        """
        low, high = self.info.range
        if (low is not None and value < low) or (high is not None and value > high):
            raise SpecError(f"{self.metric}={value:g}: is outside of its range [{low}, {high}]")


def race_question(manifest: Manifest, said: Mapping[str, Any] | None = None) -> RaceQuestion | None:
    """The race that a manifest's options ask for, ``None`` where every run is to be run.

    Args:
        said: what the trainers' classes say of their metrics.

    Raises:
        SpecError: for a race that these runs cannot answer: one seed, a metric that is unknown, has no better
            end or no range where one is needed, no base to compare with, cells without partners.
    """
    spec = race_of(manifest.options)
    if spec is None:
        return None
    trainers = {
        int(code): int(run)
        for code, run in zip(*np.unique(manifest.group_codes["trainer"], return_index=True), strict=True)
    }
    declared: dict[str, Any] = {}
    targets = []
    for run in trainers.values():
        trainer = manifest.group("trainer", run)
        targets.append(trainer.target)
        for name, written in (trainer.metrics or {}).items():
            declared.setdefault(name, written)
    for name, written in (said or {}).items():
        declared.setdefault(name, written)
    shipped = any(target.startswith(SHIPPED) for target in targets)
    metric = spec.metric or next(iter(declared), None) or (_judged(manifest) if shipped else None)
    if metric is None and shipped:
        raise SpecError(
            "search=race: not all of these runs are judged, so there is no accuracy to decide by; choose "
            "an eval, or another metric with search.metric="
        )
    if metric is None:
        raise SpecError(
            "search=race: nothing is said of this trainer's metrics; name one with search.metric=, and say "
            "which way it is better with trainer.metrics.NAME: {direction: max}"
        )
    info = metric_info(metric, declared[metric]) if metric in declared else None
    info = info or (shipped_metric(metric) if shipped else None) or MetricInfo()
    require_metric(spec, metric, info)
    if spec.question == "above_base" and spec.base is None:
        _require_base(manifest, metric, shipped=shipped)
    question = RaceQuestion(spec=spec, metric=metric, info=info)
    if spec.base is not None:
        try:
            question.require_in_range(spec.base)
        except SpecError as error:
            raise SpecError(f"search.base={spec.base:g}: {error}; give a number that it can have") from None
    question.begin(manifest)
    return question


def wanted_again(question: RaceQuestion | None, manifest: Manifest, book: RunIndex) -> list[int]:
    """Skipped runs that no decision which stands does without: those of a race that asked something else or
    was about other cells, and all where no race is asked for.
    """
    skipped = book.skipped()
    if question is None or not skipped:
        return skipped
    race, unneeded = question.begin(manifest), set[int]()
    for cells, record in question.standing(manifest, book).items():
        unneeded.update(race.leave(cells, record.side, record.log_evidence))
    return [run for run in skipped if run not in unneeded]


def _evaluations(manifest: Manifest) -> list[Any]:
    """The distinct evaluations of a sweep's runs."""
    _, first = np.unique(manifest.group_codes["eval"], return_index=True)
    return [manifest.group("eval", int(run)) for run in first]


def _judged(manifest: Manifest) -> str | None:
    """The accuracy that a shipped trainer's runs are about; ``None`` where some run is not judged."""
    judged = _evaluations(manifest)
    if any(e.path is None for e in judged):
        return None
    sampled, greedy = HEADLINE_METRICS
    if all(e.temperatures for e in judged):
        return sampled
    return greedy if all(e.greedy for e in judged) else None


def _require_base(manifest: Manifest, metric: str, *, shipped: bool) -> None:
    """Refuse a comparison with a base model that is not judged."""
    if not shipped or not metric.startswith("accuracy"):
        raise SpecError(
            f"search.question=above_base: {metric} has no value of a base model; give the number to be "
            "above as search.base=, or ask search.question=best"
        )
    for judged in _evaluations(manifest):
        if 0 not in judged.steps:
            steps = ",".join(map(str, judged.steps))
            raise SpecError(
                f"eval.steps=[{steps}]: the base model is not judged, which search.question=above_base "
                f"compares with; write eval.steps=[0,{steps}]"
            )
