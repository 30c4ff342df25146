"""What an optimizer step lowers, as data: one loss whose parts are axes. Standard library only.

Every objective is the same sum over the tokens of the step's rollouts, put together from four parts::

    entropy_weight · H    +    −A · log π  (or its clipped ratio)    +    kl_coef · KL    , aggregated

and, over the completions that a training set gives, ``nll_weight`` · NLL. Where the second is all there is,
no rollouts are drawn.

A method is a choice of parts: one-shot entropy minimization is H alone, GRPO a verified reward with a
group-relative advantage A and a clipped ratio, RENT the same with the negative entropy as reward. The options
of ``conf/objective`` name those choices; any part of any of them can be an axis of its own.

π is the whole next-token distribution at temperature τ. The shipped policy gradients take τ from the sampling
temperature; a nucleus or a repetition penalty draws rollouts from another distribution than the one trained.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sweeps.spec.objective_checks import check_objective
from sweeps.spec.objective_names import (
    COMPAT_DEFECTS,
    OF_PAIRS,
    OF_ROLLOUTS,
    RELATIVE,
    REWARDS,
    WITH_REFERENCE,
    Advantage,
    Aggregation,
    Divergence,
    DivergenceOn,
    Method,
    Preference,
    Reference,
    Targets,
)


def _later(default: Any) -> Any:
    """Declare a field that came after version 1: left out of the identity at its default."""
    return field(default=default, metadata={"omit_at": default})


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectiveSpec:
    """What an optimizer step lowers."""

    name: Method = "em"
    """Which method this is; its parts are in the other keys."""
    temperature: float = 0.5
    """Training temperature τ dividing the logits inside entropies and log-probabilities."""
    compat: str = "exact"
    """``exact``; ``upstream`` for all :data:`COMPAT_DEFECTS`; or some of them joined by ``+``."""
    compat_world_size: int = _later(8)
    """GPUs of the published trainer that ``compat`` reproduces, whatever this run is computed on."""
    compat_micro_batch: int = _later(2)
    """Rollouts of one micro batch and GPU of that trainer."""

    entropy_weight: float = _later(1.0)
    """Weight of the token entropy in the loss: 1 minimises it, a negative one is an entropy bonus."""
    aggregation: Aggregation = field(default="token", metadata={"omit_at": "token"})
    """``token``: mean over all tokens; ``sequence``: mean over rollouts of their token means; ``sum``: mean
    over rollouts of their token sums; ``dr``: the same divided by ``sampling.max_new_tokens``.
    """

    nll_weight: float = _later(0.0)
    """Weight of the negative log-likelihood of given completions at temperature 1, in nats, aggregated over
    their tokens as ``aggregation`` says.
    """
    nll_dft: bool = _later(False)
    """Weigh each of its tokens by the token's probability, a constant for the gradient (DFT, arXiv
    2508.05629).
    """
    label_smoothing: float = _later(0.0)
    """Share ε of its targets that is spread evenly over the vocabulary: (1 − ε)·NLL + ε·mean_v(−log p_v)."""

    reward_verified: float = _later(0.0)
    """Weight of the reward 1 for an answer that math-verify finds equal to the label."""
    wrong_answer: float = _later(0.0)
    """What ``reward_verified`` weighs for an answer that is not right: 0, or DAPO's −1."""
    reward_majority: float = _later(0.0)
    """Weight of the reward 1 for the answer that most rollouts of the prompt give."""
    reward_format: float = _later(0.0)
    """Weight of the reward 1 for a completion in which an answer is found at all."""
    reward_overlong: float = _later(0.0)
    """Weight of DAPO's length penalty, from 0 to −1 over the last fifth of ``sampling.max_new_tokens``."""
    reward_self_certainty: float = _later(0.0)
    """Weight of the mean over tokens of KL(uniform ‖ π) + log V, in nats."""
    reward_neg_entropy: float = _later(0.0)
    """Weight of the negative mean token entropy, in nats."""
    reward_neg_entropy_sum: float = _later(0.0)
    """Weight of the negative token entropy summed over the completion, in nats."""
    reward_log_prob: float = _later(0.0)
    """Weight of log π(completion), in nats."""
    no_answer: float | None = _later(None)
    """Reward of a completion in which no answer is found, in the place of all others; ``None`` makes no
    difference (RENT: −7).
    """
    answer_pattern: str | None = _later(None)
    """Regular expression whose last match's first group is the answer, for rewards that read answers;
    ``None`` lets math-verify find it.
    """

    advantage: Advantage = field(default="raw", metadata={"omit_at": "raw"})
    """From rewards to advantages. ``group``: (r − mean)/std within a group; ``batch``: the same over the std
    of all; ``center``: r − mean; ``loo``: r − mean of the others in the group; ``rate``: 1 − q of a right
    answer and −q of another, q the group's rate of right ones within [0.02, 0.98], and 0 where that is 0 or
    1; ``raw``: r itself.
    """
    group_size: int = _later(0)
    """Rollouts of one prompt that are compared with each other; 0 takes all of the prompt's."""
    trained_per_prompt: int = _later(0)
    """Rollouts of each prompt that the loss is computed on, the first ones drawn; the others vote on the
    majority (TTRL: 32 of 64). 0 trains on all.
    """
    positive_only: bool = _later(False)
    """Drop negative advantages."""
    max_redraws: int = _later(0)
    """Times that groups whose rollouts are all right or all wrong are drawn again before they are left out
    (DAPO's dynamic sampling); where no answer is verified, groups whose rewards are all equal, the length
    penalty apart. 0 keeps them.
    """

    clip_low: float = _later(0.0)
    """The policy ratio is clipped below 1 − ``clip_low``."""
    clip_high: float = _later(0.0)
    """The policy ratio is clipped above 1 + ``clip_high``; 0 for both uses log π without a ratio."""
    negative_aware: bool = _later(False)
    """Train on right answers by −log R, R the policy ratio of a token, and on others by the likelihood of an
    implicit negative policy, −log max((1 − q·R)/(1 − q), 1) (NFT, arXiv 2505.18116). Needs
    ``advantage=rate``.
    """
    negative_weight: float = _later(1.0)
    """Weight of what is to become less likely: of wrong answers where ``negative_aware``, of rejected ones in
    ``redi`` (its α).
    """
    iterations: int = _later(1)
    """Optimizer steps taken on the same rollouts."""

    kl: Divergence = field(default="k3", metadata={"omit_at": "k3"})
    """Divergence from the reference and its estimate. In the loss, token by token: ``reverse``, KL(π ‖
    π_ref); ``forward``, KL(π_ref ‖ π); ``js``, twice Jensen and Shannon's, at most 2·log 2; ``k3``, TRL's,
    whose value is the reverse KL's and whose gradient the forward one's. In the reward, summed over the
    completion: ``k1``, the reverse KL (in the loss its gradient would be zero in expectation).
    """
    kl_on: DivergenceOn = field(default="rollouts", metadata={"omit_at": "rollouts"})
    """Tokens that it is estimated from: those of ``rollouts``, drawn by the policy, or of given
    ``completions``, taken for the reference's own (DPH-RL, arXiv 2509.07430; not ``k1``, not ``k3``).
    """
    kl_coef: float = _later(0.0)
    """Weight β of that divergence."""
    reference: Reference = field(default="base", metadata={"omit_at": "base"})
    """Frozen policy that the loss compares with: ``base``, the untrained model; ``start``, the model that
    training starts from, another run's with ``init_from``; or ``none``.
    """

    preference: Preference = field(default="none", metadata={"omit_at": "none"})
    """Loss on given completions, a mean over the step's pairs or rows. Of pairs: ``dpo``, ``ipo``, ``simpo``,
    ``orpo``, ``redi``; of labelled rows: ``kto``; of rows: ``npo``, ``dco``.
    """
    preference_weight: float = _later(1.0)
    """Weight of that loss beside the other parts."""
    beta: float = _later(0.1)
    """Its β: nats of log-ratio count β each, a small one lets the policy go further from the reference."""
    per_token: bool = _later(False)
    """``dpo``, ``ipo``: whether log-ratios are means over a completion's tokens, not sums."""
    margin: float = _later(0.0)
    """``simpo``: nats per token by which chosen completions are to lead, the paper's γ/β."""
    desirable_weight: float = _later(1.0)
    """``kto``: weight λ_D of desirable rows."""
    undesirable_weight: float = _later(1.0)
    """``kto``: weight λ_U of the others. λ_D·n_D/(λ_U·n_U) should lie in 1…4/3, for n_D and n_U rows."""
    attempts: int = _later(1)
    """``dco``: attempts N of which one is to give the completion; 1 is fine-tuning on it."""

    def __post_init__(self) -> None:
        check_objective(self)

    @property
    def defects(self) -> frozenset[str]:
        """The defects of ``compat``, by name."""
        if self.compat in ("exact", "upstream"):
            return frozenset(COMPAT_DEFECTS if self.compat == "upstream" else ())
        return frozenset(self.compat.split("+"))

    @property
    def rewards(self) -> dict[str, float]:
        weights = {name: getattr(self, f"reward_{name}") for name in REWARDS}
        return {name: weight for name, weight in weights.items() if weight}

    @property
    def targets(self) -> Targets:
        """What the loss reads of a training set's rows beside their prompts."""
        if self.preference in OF_PAIRS:
            return "pairs"
        # Beside a likelihood to keep, rows to be forgotten must be told from the others.
        if self.preference == "kto" or (self.preference == "npo" and self.nll_weight):
            return "labels"
        given = self.nll_weight or self.preference != "none" or self.diverges_on_completions
        return "completions" if given else ""

    @property
    def sequences_per_row(self) -> int:
        """Given completions of one row that are trained on."""
        return {"": 0, "pairs": 2}.get(self.targets, 1)

    @property
    def draws_rollouts(self) -> bool:
        """Whether a step draws rollouts: unless given completions are all that is trained on."""
        return not self.targets or self.entropy_weight != 0 or self.reads_log_probs

    @property
    def unread(self) -> tuple[str, ...]:
        """Fields that say nothing of this loss, since it is one of given completions alone."""
        if self.draws_rollouts:
            return ()
        is_of_tokens = self.nll_weight or self.diverges_on_completions
        return OF_ROLLOUTS if is_of_tokens else (*OF_ROLLOUTS, "aggregation")

    @property
    def is_policy_gradient(self) -> bool:
        """Whether rewards weigh log-probabilities."""
        return bool(self.rewards) or self.diverges_in_reward

    @property
    def diverges_in_reward(self) -> bool:
        """Whether divergence from the reference is taken off the reward."""
        return self.kl_coef > 0 and self.kl == "k1" and self.kl_on == "rollouts"

    @property
    def diverges_in_loss(self) -> bool:
        """Whether divergence from the reference on rollouts is a term of the loss."""
        return self.kl_coef > 0 and self.kl != "k1" and self.kl_on == "rollouts"

    @property
    def diverges_on_completions(self) -> bool:
        """Whether divergence from the reference on given completions is a term of the loss."""
        return self.kl_coef > 0 and self.kl_on == "completions"

    @property
    def has_ratio(self) -> bool:
        """Whether the policy ratio stands in the place of log π."""
        return self.clip_low > 0 or self.clip_high > 0 or self.negative_aware

    @property
    def reads_log_probs(self) -> bool:
        """Whether the loss needs log π of the rollouts' tokens."""
        return self.is_policy_gradient or self.diverges_in_loss

    @property
    def has_preference_reference(self) -> bool:
        """Whether the loss on given completions compares with the reference."""
        return self.preference in WITH_REFERENCE

    @property
    def has_reference(self) -> bool:
        """Whether any part of the loss compares with the reference."""
        return self.kl_coef > 0 or self.has_preference_reference

    @property
    def is_relative(self) -> bool:
        """Whether a rollout is compared with the others of its group."""
        return self.is_policy_gradient and self.advantage in RELATIVE
