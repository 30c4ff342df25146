"""Rules within an objective: parts that make no loss, or that nothing reads. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, get_args

from sweeps.spec.errors import SpecError, choice, require
from sweeps.spec.objective_names import (
    COMPAT_DEFECTS,
    COMPAT_WORDS,
    GIVEN_OBJECTIVES,
    MISPLACED,
    OBJECTIVES,
    OF_TOKEN_MEANS,
    PREFERENCES,
    REWARDS,
    WITH_REFERENCE,
    Advantage,
    Aggregation,
    Divergence,
    DivergenceOn,
    Preference,
    Reference,
)

if TYPE_CHECKING:
    from sweeps.spec.objective import ObjectiveSpec

_READ_BY: dict[str, tuple[Preference, ...]] = {
    "preference_weight": tuple(kind for kind in PREFERENCES if kind != "none"),
    "beta": ("dpo", "ipo", "simpo", "orpo", "kto", "npo"),
    "per_token": ("dpo", "ipo"),
    "margin": ("simpo",),
    "desirable_weight": ("kto",),
    "undesirable_weight": ("kto",),
    "attempts": ("dco",),
}
"""Which losses read a parameter."""

_NEUTRAL = {
    "preference_weight": 1.0,
    "beta": 0.1,
    "per_token": False,
    "margin": 0.0,
    "desirable_weight": 1.0,
    "undesirable_weight": 1.0,
    "attempts": 1,
}
"""Values of those parameters that say nothing."""


def check_objective(objective: ObjectiveSpec) -> None:
    """Refuse what cannot be computed or would change nothing.

    Raises:
        SpecError: naming the key, its value and the fix.
    """
    choice("objective.name", objective.name, OBJECTIVES)
    for name in objective.compat.split("+"):
        choice("objective.compat", name, COMPAT_DEFECTS if "+" in objective.compat else COMPAT_WORDS)
    _check_numbers(objective)
    choice("objective.aggregation", objective.aggregation, get_args(Aggregation))
    choice("objective.advantage", objective.advantage, get_args(Advantage))
    choice("objective.kl", objective.kl, get_args(Divergence))
    choice("objective.kl_on", objective.kl_on, get_args(DivergenceOn))
    choice("objective.reference", objective.reference, get_args(Reference))
    require(
        not objective.kl_coef or objective.reference != "none",
        "objective.kl_coef",
        objective.kl_coef,
        "needs a reference to diverge from; set objective.reference=base, or objective.kl_coef=0",
    )
    require(
        objective.reference != "start" or objective.has_reference,
        "objective.reference",
        objective.reference,
        "is compared with by no part of this loss; set objective.kl_coef, take an objective that compares, "
        "such as objective=dpo, or leave it out",
    )
    require(
        objective.name not in GIVEN_OBJECTIVES or bool(objective.targets),
        "objective.name",
        objective.name,
        f"trains on given completions; take the option objective={objective.name}, which weighs them",
    )
    require(
        objective.name in ("em", "em_ft", *GIVEN_OBJECTIVES) or objective.is_policy_gradient,
        "objective.name",
        objective.name,
        f"needs a reward; take the option objective={objective.name}, which sets one, "
        f"or weigh one of {', '.join(f'objective.reward_{r}' for r in REWARDS)}",
    )
    _check_negative_aware(objective)
    require(
        not objective.reads_log_probs or not objective.defects & MISPLACED,
        "objective.compat",
        objective.compat,
        "misplaces the loss's mask, which only entropies bear; set objective.compat=exact",
    )
    require(
        not objective.defects & OF_TOKEN_MEANS
        or (not objective.reads_log_probs and objective.aggregation == "token"),
        "objective.compat",
        objective.compat,
        "changes how a mean of token entropies is computed; use it with objective=em, or set "
        "objective.compat=exact",
    )
    _check_given(objective)
    _check_preference(objective)


def _check_given(objective: ObjectiveSpec) -> None:
    for key in ("nll_dft", "label_smoothing"):
        require(
            not getattr(objective, key) or objective.nll_weight != 0,
            f"objective.{key}",
            getattr(objective, key),
            "changes the loss of given completions, which objective.nll_weight=0 leaves out; weigh it, "
            "or leave this out",
        )
    require(
        not (objective.nll_dft and objective.label_smoothing),
        "objective.label_smoothing",
        objective.label_smoothing,
        "smooths the plain likelihood, not the one of objective.nll_dft=true; use one of them",
    )
    require(
        objective.kl_on == "rollouts" or objective.kl in ("reverse", "forward", "js"),
        "objective.kl",
        objective.kl,
        "estimates from the policy's own tokens; on given completions choose reverse, forward or js",
    )
    is_of_tokens = objective.nll_weight or objective.diverges_on_completions
    require(
        not is_of_tokens or objective.aggregation != "dr",
        "objective.aggregation",
        objective.aggregation,
        "divides by sampling.max_new_tokens, which given completions do not have; choose token, sequence "
        "or sum",
    )
    require(
        objective.draws_rollouts or objective.iterations == 1,
        "objective.iterations",
        objective.iterations,
        "uses rollouts several times, and this objective draws none; leave it out",
    )


def _check_negative_aware(objective: ObjectiveSpec) -> None:
    require(
        objective.name != "nft" or objective.negative_aware,
        "objective.name",
        objective.name,
        "is a loss of its own; take the option objective=nft, which sets it",
    )
    require(
        objective.advantage != "rate"
        or (
            objective.rewards == {"verified": 1.0}
            and not objective.wrong_answer
            and objective.no_answer is None
        ),
        "objective.advantage",
        objective.advantage,
        "is of answers that are right or not; reward them by objective.reward_verified=1 alone",
    )
    require(
        objective.advantage != "rate" or not objective.group_size,
        "objective.group_size",
        objective.group_size,
        "cuts a prompt's rollouts up, and objective.advantage=rate is of all of them; set 0",
    )
    if objective.negative_aware:
        require(
            objective.advantage == "rate" and not objective.positive_only,
            "objective.negative_aware",
            True,
            "weighs right and wrong answers by the prompt's rate; set objective.advantage=rate and "
            "objective.positive_only=false",
        )
        require(
            not objective.clip_low and not objective.clip_high,
            "objective.negative_aware",
            True,
            "does not clip the policy ratio; set objective.clip_low=0 and objective.clip_high=0",
        )


def _check_numbers(objective: ObjectiveSpec) -> None:
    require(
        0 < objective.temperature < math.inf,
        "objective.temperature",
        objective.temperature,
        "must be a number above 0",
    )
    for key in ("entropy_weight", "nll_weight", *(f"reward_{r}" for r in REWARDS)):
        value = getattr(objective, key)
        require(math.isfinite(value), f"objective.{key}", value, "must be a finite number")
    for key in ("wrong_answer", "no_answer"):
        value = getattr(objective, key)
        require(value is None or math.isfinite(value), f"objective.{key}", value, "must be a finite number")
    for key in ("group_size", "trained_per_prompt", "max_redraws", "clip_low", "clip_high", "kl_coef"):
        value = getattr(objective, key)
        require(0 <= value < math.inf, f"objective.{key}", value, "must be at least 0")
    require(
        0 <= objective.label_smoothing < 1,
        "objective.label_smoothing",
        objective.label_smoothing,
        "must be a share in [0, 1)",
    )
    require(objective.clip_low <= 1, "objective.clip_low", objective.clip_low, "must lie in [0, 1]")
    for key in ("iterations", "compat_world_size", "compat_micro_batch"):
        require(
            getattr(objective, key) >= 1, f"objective.{key}", getattr(objective, key), "must be at least 1"
        )


def _check_preference(objective: ObjectiveSpec) -> None:
    """Refuse parameters that make no loss, or that the loss does not read.

    Raises:
        SpecError: naming the key, its value and the fix.
    """
    kind = objective.preference
    choice("objective.preference", kind, PREFERENCES)
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
        objective.name not in PREFERENCES or kind != "none",
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
