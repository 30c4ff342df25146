"""What a race asks in full, its metric filled in, found to be answerable by the runs of this sweep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.planning.asked_metric import asked_metric, evaluations_of
from orchestrator.scheduling.sweep_race import SweepRace
from orchestrator.store.decisions import rule_of, standing
from orchestrator.store.records import DecisionRecord
from orchestrator.store.run_index import RunIndex
from sweeps.manifest.manifest import Manifest
from sweeps.spec.errors import SpecError
from sweeps.spec.metrics import MetricInfo
from sweeps.spec.search_rules import RaceSpec, race_of, require_metric


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
    asked = asked_metric(manifest, spec.metric, "race", said)
    metric, info = asked.name, asked.info
    require_metric(spec, metric, info)
    if spec.question == "above_base" and spec.base is None:
        _require_base(manifest, metric, shipped=asked.shipped)
    question = RaceQuestion(spec=spec, metric=metric, info=info)
    if spec.base is not None:
        try:
            info.require_in_range(metric, spec.base)
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


def _require_base(manifest: Manifest, metric: str, *, shipped: bool) -> None:
    """Refuse a comparison with a base model that is not judged."""
    if not shipped or not metric.startswith("accuracy"):
        raise SpecError(
            f"search.question=above_base: {metric} has no value of a base model; give the number to be "
            "above as search.base=, or ask search.question=best"
        )
    for judged in evaluations_of(manifest):
        if 0 not in judged.steps:
            steps = ",".join(map(str, judged.steps))
            raise SpecError(
                f"eval.steps=[{steps}]: the base model is not judged, which search.question=above_base "
                f"compares with; write eval.steps=[0,{steps}]"
            )
