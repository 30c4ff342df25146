"""The ``search`` option of a launch that lets a sampler choose the runs: ``tpe``, ``gp``, ``cmaes``, ``qmc``,
``random``. Pure.

It is no part of any run: a run that a search proposed is the run that a grid with its values has.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sweeps.spec.errors import SpecError, choice, require
from sweeps.spec.metrics import MetricInfo
from sweeps.spec.option_values import Types

Sampler = Literal["tpe", "gp", "cmaes", "qmc", "random"]
SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)


@dataclass(frozen=True, kw_only=True)
class SamplerSpec:
    """``search=tpe`` and its like as written; ``sweeps/conf/search/tpe.yaml`` says what each key means."""

    kind: Sampler = "tpe"
    trials: int = 100
    metric: str | None = None
    seeds_per_trial: int = 1
    seed: int = 0
    startup: int | None = None
    max_concurrent: int | None = None
    held_out_seeds: int = 3
    diverged: Literal["worst", "left_out"] = "worst"
    gpu_hours: float | None = None

    def __post_init__(self) -> None:
        choice("search.kind", self.kind, SAMPLERS)
        choice("search.diverged", self.diverged, ("worst", "left_out"))
        for key in ("trials", "seeds_per_trial"):
            require(getattr(self, key) >= 1, f"search.{key}", getattr(self, key), "must be at least 1")
        require(self.held_out_seeds >= 0, "search.held_out_seeds", self.held_out_seeds, "must be 0 or more")
        require(0 <= self.seed < 2**32, "search.seed", self.seed, "must lie between 0 and 4294967295")
        for name in ("startup", "max_concurrent"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"search.{name}", value, "must be at least 1, or null")
        hours = self.gpu_hours
        require(
            hours is None or 0 < hours < math.inf,
            "search.gpu_hours",
            hours,
            "must be above 0, or null for no limit",
        )
        if self.startup is not None and self.kind in ("qmc", "random"):
            raise SpecError(f"search.startup={self.startup}: {self.kind} learns from no trial; leave it out")

    def to_json(self) -> dict[str, Any]:
        """The options that read as this."""
        return dataclasses.asdict(self)


SAMPLER_TYPES: Types = {
    "trials": (int,),
    "metric": (str,),
    "seeds_per_trial": (int,),
    "seed": (int,),
    "startup": (int,),
    "max_concurrent": (int,),
    "held_out_seeds": (int,),
    "diverged": (str,),
    "gpu_hours": (int, float),
}
"""Keys of the option and the types of their values."""

SAMPLER_MAY_BE_NULL = ("metric", "startup", "max_concurrent", "gpu_hours")


def require_searchable(spec: SamplerSpec, name: str, info: MetricInfo) -> None:
    """Refuse a search by a metric of which too little is known.

    Raises:
        SpecError: for a metric without a better end.
    """
    if info.direction == "none":
        raise SpecError(
            f"search.metric={name}: which way it is better is not said; add trainer.metrics.{name}: "
            "{direction: max} or min"
        )
