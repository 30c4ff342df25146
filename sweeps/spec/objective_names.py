"""What an objective and its parts may be called. Standard library only."""

from __future__ import annotations

from typing import Literal, get_args

COMPAT_DEFECTS = (
    *("micro_steps", "shared_noise", "padded_lengths", "unshifted_mask", "eos_as_padding"),
    *("micro_batch_means", "bf16_entropy", "rank0_loss"),
)
"""Defects of the published trainer that ``objective.compat`` can reproduce; :mod:`trainers.step.compat`
explains each.
"""

COMPAT_WORDS = ("exact", "upstream", *COMPAT_DEFECTS)

OF_ROLLOUTS = (
    *("temperature", "compat", "compat_world_size", "compat_micro_batch", "iterations"),
    *("wrong_answer", "no_answer", "answer_pattern", "advantage", "group_size", "trained_per_prompt"),
    *("positive_only", "max_redraws", "clip_low", "clip_high", "negative_aware"),
)
"""Fields that are read of objectives that draw rollouts, and of no other."""

MISPLACED = frozenset(("padded_lengths", "unshifted_mask"))
"""Defects that count positions at which no token of the rollout is predicted, so that there is no log π."""

OF_TOKEN_MEANS = frozenset(("micro_batch_means", "bf16_entropy", "rank0_loss"))
"""Defects in how the published loss, a mean of token entropies, is computed."""

Preference = Literal["none", "dpo", "ipo", "simpo", "orpo", "redi", "kto", "npo", "dco"]
"""Losses on given completions; :mod:`trainers.objectives.preference` has the formulas."""

PREFERENCES: tuple[Preference, ...] = get_args(Preference)

OF_PAIRS: tuple[Literal["dpo", "ipo", "simpo", "orpo", "redi"], ...] = ("dpo", "ipo", "simpo", "orpo", "redi")
"""Losses of a chosen and a rejected completion of one prompt."""

OF_ROWS: tuple[Literal["npo", "dco"], ...] = ("npo", "dco")
"""Losses of a completion alone: to be forgotten, or to be found by one of several attempts."""

WITH_REFERENCE = ("dpo", "ipo", "kto", "npo")
"""Losses of r = ℓ − ℓ_ref."""

Method = Literal[
    "em",
    "em_ft",
    "em_rl_sequence",
    "em_rl_token",
    "grpo",
    "rgra",
    "rloo",
    "dr_grpo",
    "dapo",
    "rlvr_one_shot",
    "rent",
    "majority",
    "self_certainty",
    "reinforce_positive_only",
    "sft",
    "nft",
    "dpo",
    "ipo",
    "simpo",
    "orpo",
    "redi",
    "kto",
    "npo",
    "dco",
]

OBJECTIVES: tuple[Method, ...] = get_args(Method)
"""Names of methods; ``conf/objective/<name>.yaml`` says what each is made of."""

GIVEN_OBJECTIVES: tuple[Method, ...] = ("sft", *OF_PAIRS, "kto", *OF_ROWS)
"""Those that train on given completions and need a training set that has them."""

ROLLOUT_OBJECTIVES: tuple[Method, ...] = tuple(name for name in OBJECTIVES if name not in GIVEN_OBJECTIVES)
"""Those that train on the model's own rollouts."""

REWARDS = (
    "verified",
    "majority",
    "format",
    "overlong",
    "self_certainty",
    "neg_entropy",
    "neg_entropy_sum",
    "log_prob",
)
"""Rewards of :mod:`trainers.step.rewards`, each with a weight ``objective.reward_<name>``."""

Targets = Literal["", "completions", "pairs", "labels"]
"""What the rows of a training set give beside a prompt: nothing that is read, a completion, a chosen and a
rejected one, or a completion that is desirable or not.
"""

Aggregation = Literal["token", "sequence", "sum", "dr"]
Advantage = Literal["group", "batch", "center", "loo", "rate", "raw"]
Divergence = Literal["k1", "k3", "reverse", "forward", "js"]
DivergenceOn = Literal["rollouts", "completions"]
Reference = Literal["base", "start", "none"]
RELATIVE = ("group", "center", "loo", "rate")
"""Advantages that compare a rollout with the others of its group, and so need others."""
