"""What losses on given completions need of their objective: which are of pairs, which have a reference. Pure.

:mod:`trainers.objectives.preference` has the formulas.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, get_args

from sweeps.spec.errors import SpecError, choice, require

if TYPE_CHECKING:
    from sweeps.spec.objective import ObjectiveSpec

Preference = Literal["none", "dpo", "ipo", "simpo", "orpo", "redi", "kto", "npo", "dco"]

OF_PAIRS: tuple[Preference, ...] = ("dpo", "ipo", "simpo", "orpo", "redi")
"""Losses of a chosen and a rejected completion of one prompt."""

OF_ROWS: tuple[Preference, ...] = ("npo", "dco")
"""Losses of a completion alone: to be forgotten, or to be found by one of several attempts."""

WITH_REFERENCE: tuple[Preference, ...] = ("dpo", "ipo", "kto", "npo")
"""Losses of r = ℓ − ℓ_ref."""

_SCALED: tuple[Preference, ...] = ("dpo", "ipo", "simpo", "orpo", "kto", "npo")
"""Losses that have a β."""

_READ_BY: dict[str, tuple[Preference, ...]] = {
    "per_token": ("dpo", "ipo"),
    "margin": ("simpo",),
    "desirable_weight": ("kto",),
    "undesirable_weight": ("kto",),
    "attempts": ("dco",),
}
"""Which losses read a parameter."""

_NEUTRAL = {
    "per_token": False,
    "margin": 0.0,
    "desirable_weight": 1.0,
    "undesirable_weight": 1.0,
    "attempts": 1,
}
"""Values of those parameters that say nothing."""


def check_preference(objective: ObjectiveSpec) -> None:
    """Refuse parameters that make no loss, or that the loss does not read.

    Raises:
        SpecError: naming the key, its value and the fix.
    """
    kind = objective.preference
    choice("objective.preference", kind, get_args(Preference))
    for key in ("preference_weight", "margin"):
        value = getattr(objective, key)
        require(math.isfinite(value), f"objective.{key}", value, "must be a finite number")
    for key in ("beta", "desirable_weight", "undesirable_weight"):
        value = getattr(objective, key)
        require(0 < value < math.inf, f"objective.{key}", value, "must be a number above 0")
    require(
        0 <= objective.negative_weight <= 1,
        "objective.negative_weight",
        objective.negative_weight,
        "must lie in [0, 1]: above 1 a loss falls without end by making completions unlikely, whatever "
        "becomes of the good ones (REDI: 0.8)",
    )
    require(
        objective.negative_weight == 1 or kind == "redi" or objective.negative_aware,
        "objective.negative_weight",
        objective.negative_weight,
        "is read by objective=redi and objective.negative_aware=true only; leave it out",
    )
    require(objective.attempts >= 1, "objective.attempts", objective.attempts, "must be at least 1")
    for key, readers in _READ_BY.items():
        value = getattr(objective, key)
        if kind not in readers and value != _NEUTRAL[key]:
            raise SpecError(
                f"objective.{key}={value}: is read by objective={' and '.join(readers)} only, not by "
                f"objective.preference={kind}; leave it out"
            )
    require(
        objective.name not in get_args(Preference) or kind != "none",
        "objective.name",
        objective.name,
        f"compares given completions; take the option objective={objective.name}, which says how",
    )
    if kind == "none":
        return
    require(objective.preference_weight != 0, "objective.preference_weight", 0, "weighs nothing; set 1")
    require(
        objective.iterations == 1,
        "objective.iterations",
        objective.iterations,
        "takes further steps on rollouts, and given completions are compared anew at each step; set 1",
    )
    require(
        kind not in WITH_REFERENCE or objective.reference != "none",
        "objective.reference",
        objective.reference,
        f"leaves objective.preference={kind} nothing to compare with; set objective.reference=base",
    )


def has_beta(kind: Preference) -> bool:
    """Whether a loss is scaled by β."""
    return kind in _SCALED
