"""The ``prune`` option of a launch: which runs are stopped before their end. Pure.

It is no part of any run: a run that goes on to its end is the run that it is without.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from sweeps.spec.errors import choice, require
from sweeps.spec.option_values import Types, option_of, typed_values

Pruner = Literal["asha", "median", "wilcoxon"]
PRUNERS: tuple[Pruner, ...] = get_args(Pruner)


@dataclass(frozen=True, kw_only=True)
class PruneSpec:
    """``prune=asha`` and its like as written; ``sweeps/conf/prune/asha.yaml`` says what each key means."""

    kind: Pruner
    metric: str | None = None
    min_steps: int = 1
    reduction: int = 4
    startup_runs: int = 5
    p: float = 0.1

    def __post_init__(self) -> None:
        choice("prune.kind", self.kind, PRUNERS)
        least = 2 if self.kind == "wilcoxon" else 1
        require(self.min_steps >= least, "prune.min_steps", self.min_steps, f"must be at least {least}")
        require(
            self.reduction >= 2, "prune.reduction", self.reduction, "must be at least 2: one in two goes on"
        )
        require(self.startup_runs >= 1, "prune.startup_runs", self.startup_runs, "must be at least 1")
        require(0 < self.p < 1, "prune.p", self.p, "must be a chance between 0 and 1, such as 0.1")

    def to_json(self) -> dict[str, Any]:
        """The options that read as this."""
        own = {"kind", *_TYPES[self.kind]}
        return {key: value for key, value in dataclasses.asdict(self).items() if key in own}


_COMMON: Types = {"metric": (str,), "min_steps": (int,)}
_TYPES: Mapping[str, Types] = {
    "asha": {**_COMMON, "reduction": (int,)},
    "median": {**_COMMON, "startup_runs": (int,)},
    "wilcoxon": {**_COMMON, "p": (int, float)},
}


def prune_of(options: Mapping[str, Any]) -> PruneSpec | None:
    """The early stopping that a launch's options ask for; ``None`` where every run goes on to its end.

    Raises:
        SpecError: for an unknown kind or key, and a value that is none.
    """
    kind, given = option_of(options, "prune", PRUNERS, "asha")
    if kind == "none":
        return None
    values = typed_values("prune", kind, given, _TYPES[kind], ("metric",))
    return PruneSpec(kind=cast(Pruner, kind), **({"min_steps": 2} if kind == "wilcoxon" else {}) | values)
