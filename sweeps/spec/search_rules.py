"""The ``search`` option of a launch: which runs of a grid have to be run for its question. Pure.

It is no part of any run: a run that a race asked for is the run that the whole grid has.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from sweeps.spec.errors import SpecError, choice, require
from sweeps.spec.metrics import MetricInfo
from sweeps.spec.option_values import Types, option_of, typed_values
from sweeps.spec.prune_rules import prune_of
from sweeps.spec.sampler_rules import SAMPLER_MAY_BE_NULL, SAMPLER_TYPES, SAMPLERS, Sampler, SamplerSpec

Question = Literal["above_base", "best", "compare"]
ErrorKind = Literal["fdr", "fwer"]
EvidenceKind = Literal["t", "bounded"]
Diverged = Literal["worst", "left_out"]


@dataclass(frozen=True, kw_only=True)
class RaceSpec:
    """``search=race`` as it was written; ``sweeps/conf/search/race.yaml`` says what each key means."""

    question: Question = "above_base"
    metric: str | None = None
    a: str | None = None
    b: str | None = None
    base: float | None = None
    rope: float = 0.0
    """In points of a share, else in the metric's unit."""
    alpha: float = 0.05
    error: ErrorKind = "fdr"
    evidence: EvidenceKind = "t"
    min_seeds: int = 5
    diverged: Diverged = "worst"
    runs: int | None = None
    gpu_hours: float | None = None

    def __post_init__(self) -> None:
        choice("search.question", self.question, get_args(Question))
        choice("search.error", self.error, get_args(ErrorKind))
        choice("search.evidence", self.evidence, get_args(EvidenceKind))
        choice("search.diverged", self.diverged, get_args(Diverged))
        require(
            0 < self.alpha < 1, "search.alpha", self.alpha, "must be a chance between 0 and 1, such as 0.05"
        )
        require(
            0 <= self.rope < math.inf, "search.rope", self.rope, "must be a size of differences, 0 or more"
        )
        require(
            self.min_seeds >= 2, "search.min_seeds", self.min_seeds, "must be at least 2: one has no spread"
        )
        for key in ("runs", "gpu_hours"):
            value = getattr(self, key)
            require(
                value is None or value > 0, f"search.{key}", value, "must be above 0, or null for no limit"
            )
        is_number = self.base is None or math.isfinite(self.base)
        require(is_number, "search.base", self.base, "must be a finite number")
        asked = self.question == "compare"
        for key in ("a", "b"):
            if (getattr(self, key) is not None) != asked:
                raise SpecError(
                    f"search.{key}={getattr(self, key)}: search.question=compare takes both search.a and "
                    "search.b, filters of the cells to compare such as objective=em; no other question does"
                )
        require(
            self.base is None or self.question == "above_base",
            "search.base",
            self.base,
            "is read by search.question=above_base only; leave it out",
        )

    def to_json(self) -> dict[str, Any]:
        """The options that read as this."""
        return {"kind": "race", **dataclasses.asdict(self)}


_TYPES: Types = {
    "question": (str,),
    "metric": (str,),
    "a": (str,),
    "b": (str,),
    "base": (int, float),
    "rope": (int, float),
    "alpha": (int, float),
    "error": (str,),
    "evidence": (str,),
    "min_seeds": (int,),
    "diverged": (str,),
    "runs": (int,),
    "gpu_hours": (int, float),
}
_MAY_BE_NULL = ("metric", "a", "b", "base", "runs", "gpu_hours")


def search_of(options: Mapping[str, Any]) -> RaceSpec | SamplerSpec | None:
    """What a launch's options have decide which runs are run; ``None`` where every run of a grid is.

    Raises:
        SpecError: for an unknown kind or key, and a value that is none.
    """
    kind, given = option_of(options, "search", ("race", *SAMPLERS), "race")
    if kind == "none":
        return None
    if kind == "race":
        return RaceSpec(**typed_values("search", kind, given, _TYPES, _MAY_BE_NULL))
    values = typed_values("search", kind, given, SAMPLER_TYPES, SAMPLER_MAY_BE_NULL)
    return SamplerSpec(kind=cast(Sampler, kind), **values)


def race_of(options: Mapping[str, Any]) -> RaceSpec | None:
    """The race that a launch's options ask for, if any. Raises as :func:`search_of`."""
    found = search_of(options)
    return found if isinstance(found, RaceSpec) else None


def sampler_of(options: Mapping[str, Any]) -> SamplerSpec | None:
    """The search that a launch's options ask for, if any. Raises as :func:`search_of`."""
    found = search_of(options)
    return found if isinstance(found, SamplerSpec) else None


def same_search(options: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    """Whether two launches' options ask for the same runs of a grid, each to the same end."""
    same_space = options.get("space") == others.get("space")
    return same_space and all(read(options) == read(others) for read in (search_of, prune_of))


def require_metric(race: RaceSpec, name: str, info: MetricInfo) -> None:
    """Refuse a race about a metric of which too little is known.

    Raises:
        SpecError: for a metric without a better end, and one without a range where the race needs it.
    """
    said = f"trainer.metrics.{name}"
    if info.direction == "none":
        raise SpecError(
            f"search.metric={name}: which way it is better is not said; add {said}: {{direction: max}} or min"
        )
    if race.diverged == "worst" and worst_of(info) is None:
        raise SpecError(
            f"search.metric={name}: has no worst value that a diverged run could count as; add {said}.range, "
            "or leave such runs out with search.diverged=left_out"
        )
    if race.evidence == "bounded" and None in info.range:
        raise SpecError(
            f"search.metric={name}: search.evidence=bounded needs its least and largest value; add "
            f"{said}.range: [least, largest], or take search.evidence=t"
        )


def worst_of(info: MetricInfo) -> float | None:
    """The worst value that a metric can take; ``None`` where it has no bound on that side."""
    return info.range[1] if info.direction == "min" else info.range[0]
