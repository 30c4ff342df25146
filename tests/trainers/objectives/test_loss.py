"""Every shipped objective against its formula, rollout by rollout, and against what must not change it."""

from __future__ import annotations

import math
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from sweeps.spec import ROLLOUT_OBJECTIVES, ObjectiveSpec
from tests.trainers.presets import preset
from trainers.objectives.advantage import advantages, credit
from trainers.objectives.loss import Rows, Totals, aggregate, token_losses

LENGTHS = [3, 1, 4, 0, 2]
"""Tokens of each distinct rollout; one is empty, one a single token."""

DRAWN = [0, 1, 2, 0, 3, 2, 4, 0, 1, 1, 4, 2, 0, 3, 2, 4]
"""Distinct rollout that each of 16 draws equals: copies lie in different groups."""

GROUP, WIDTH, VOCABULARY, MAX_NEW_TOKENS = 4, 4, 7, 6
NUM_TOKENS = sum(LENGTHS[d] for d in DRAWN)
MASK = torch.arange(WIDTH) < torch.tensor(LENGTHS)[:, None]
BETA = 0.3
"""Weight of the divergence, large enough to show."""


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


LOGITS = draw(len(LENGTHS), WIDTH, VOCABULARY, seed=0)
TARGETS = torch.randint(
    VOCABULARY, (len(LENGTHS), WIDTH), generator=torch.Generator().manual_seed(1)
).masked_fill(~MASK, 0)
REFERENCE = -draw(len(LENGTHS), WIDTH, seed=2).abs().masked_fill(~MASK, 0)
REWARDS = draw(len(LENGTHS), seed=3)


RIGHT = (REWARDS > 0).double()
"""Rewards of an objective of right and wrong answers, to one prompt."""

RATE = RIGHT[DRAWN].mean().item()


def spec_of(name: str) -> ObjectiveSpec:
    spec = preset(name)
    group = {} if spec.advantage == "rate" else {"group_size": GROUP}
    return preset(name, **group, **({"kl_coef": BETA} if spec.kl_coef else {}))


def advantages_of(spec: ObjectiveSpec) -> np.ndarray:
    if spec.advantage == "rate":
        return advantages((REWARDS > 0).double().numpy()[DRAWN], len(DRAWN), "rate")
    scaled = advantages(REWARDS.numpy()[DRAWN], GROUP, spec.advantage)
    return np.maximum(scaled, 0) if spec.positive_only else scaled


def ours(
    spec: ObjectiveSpec, logits: Tensor, old: Tensor | None = None, mask: Tensor = MASK
) -> tuple[float, Tensor]:
    """Loss and gradient as training computes them: distinct rollouts with counts and credit."""
    worth = credit(advantages_of(spec), np.array(DRAWN), positive_only=spec.positive_only)
    leaf = logits.float().requires_grad_()
    rows = Rows(
        target_BK=TARGETS,
        mask_BK=mask,
        count_B=torch.tensor(np.bincount(DRAWN), dtype=torch.float32),
        gain_B=torch.tensor(worth.gain_D, dtype=torch.float32),
        cost_B=torch.tensor(worth.cost_D, dtype=torch.float32),
        old_log_prob_BK=None if old is None else old.float(),
        reference_BK=REFERENCE.float() if spec.diverges_in_loss else None,
        rate_B=torch.full((len(LENGTHS),), RATE) if spec.negative_aware else None,
    )
    totals = Totals(num_tokens=NUM_TOKENS, num_rollouts=len(DRAWN), max_new_tokens=MAX_NEW_TOKENS)
    losses = token_losses(spec, leaf * 1.0, rows)
    loss = aggregate(losses.loss_BK, mask, spec.aggregation, totals)
    loss.backward()
    return loss.item(), leaf.grad


def log_probs(spec: ObjectiveSpec, logits: Tensor) -> Tensor:
    return torch.log_softmax(logits / spec.temperature, -1).gather(-1, TARGETS[..., None])[..., 0]


def by_formula(name: str, spec: ObjectiveSpec, logits: Tensor, old: Tensor) -> float:
    """The method's own formula in double precision, one drawn rollout after another."""
    log_p_all = torch.log_softmax(logits / spec.temperature, -1)
    total = 0.0
    for d, advantage in zip(DRAWN, advantages_of(spec).tolist(), strict=True):
        length = LENGTHS[d]
        for t in range(length):
            all_v = log_p_all[d, t]
            log_p = all_v[TARGETS[d, t]].item()
            entropy = -(all_v.exp() * all_v).sum().item()
            ratio = math.exp(log_p - old[d, t].item())
            apart = REFERENCE[d, t].item() - log_p
            k3 = math.exp(apart) - apart - 1
            high = 1.28 if name == "dapo" else 1.2
            clipped = -min(ratio * advantage, min(max(ratio, 0.8), high) * advantage)
            plain = -advantage * log_p
            # NFT's floor passes gradients: what it adds is a constant, that of the logits as they are.
            as_is = math.exp(log_probs(spec, LOGITS)[d, t].item() - old[d, t].item())
            raised = max(0.0, 1 - (1 - RATE * as_is) / (1 - RATE))
            aware = -math.log(ratio) if RIGHT[d] else -math.log((1 - RATE * ratio) / (1 - RATE) + raised)
            over_tokens, over_rollouts, over_own = 1 / NUM_TOKENS, 1 / 16, 1 / (16 * length)
            total += {
                "em": entropy * over_tokens,
                "em_ft": entropy * over_rollouts,
                "em_rl_sequence": (plain + BETA * k3) * over_rollouts,
                "em_rl_token": (plain + BETA * k3) * over_rollouts,
                "grpo": clipped * over_own,
                "rgra": plain * over_own,
                "reinforce_positive_only": plain * over_own,
                "rloo": plain * over_rollouts,
                "dr_grpo": clipped / (16 * MAX_NEW_TOKENS),
                "dapo": clipped * over_tokens,
                "rlvr_one_shot": (clipped + BETA * k3 - 0.001 * entropy) * over_tokens,
                "rent": clipped * over_tokens,
                "majority": clipped * over_tokens,
                "self_certainty": (clipped + BETA * k3) * over_own,
                "nft": (1 - RATE) * aware / (16 * MAX_NEW_TOKENS),
            }[name]
    return total


@pytest.mark.parametrize("drift", [0.0, 0.4], ids=["on-policy", "off-policy"])
@pytest.mark.parametrize("name", ROLLOUT_OBJECTIVES)
def test_loss_and_gradient_equal_the_formula_and_its_finite_differences(name, drift):
    spec = spec_of(name)
    old = (log_probs(spec, LOGITS) + drift * draw(len(LENGTHS), WIDTH, seed=4)).masked_fill(~MASK, 0)
    loss, gradient = ours(spec, LOGITS, old if drift else None)
    assert loss == pytest.approx(by_formula(name, spec, LOGITS, old), abs=2e-6)
    step = 1e-5
    for index in range(0, LOGITS.numel(), 5):
        bump = torch.zeros(LOGITS.numel(), dtype=torch.float64)
        bump[index] = step
        bump = bump.view_as(LOGITS)
        rise = by_formula(name, spec, LOGITS + bump, old) - by_formula(name, spec, LOGITS - bump, old)
        assert gradient.flatten()[index].item() == pytest.approx(rise / (2 * step), abs=3e-6)


def test_grpo_at_ratio_one_has_the_gradient_of_rgra():
    torch.testing.assert_close(ours(spec_of("grpo"), LOGITS)[1], ours(spec_of("rgra"), LOGITS)[1])
    drifted = (log_probs(spec_of("grpo"), LOGITS) + 0.4).masked_fill(~MASK, 0)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(
            ours(spec_of("grpo"), LOGITS, drifted)[1], ours(spec_of("rgra"), LOGITS)[1]
        )


def test_the_forward_divergence_has_the_gradient_of_k3_and_a_value_of_its_own():
    k3, forward = (preset("self_certainty", group_size=GROUP, kl_coef=BETA, kl=k) for k in ("k3", "forward"))
    old = log_probs(k3, LOGITS).masked_fill(~MASK, 0)
    (loss, gradient), (k3_loss, k3_gradient) = ours(forward, LOGITS, old), ours(k3, LOGITS, old)
    torch.testing.assert_close(gradient, k3_gradient)
    apart = torch.where(MASK, REFERENCE - old, 0.0)
    excess = apart.exp() * apart - 2 * apart.exp() + apart + 2  # w·log w − w + 1 − (w − log w − 1)
    shares = torch.tensor([1 / (16 * LENGTHS[d]) if LENGTHS[d] else 0.0 for d in DRAWN])
    expected = BETA * (excess.sum(1)[DRAWN] * shares).sum().item()
    assert loss - k3_loss == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize(("name", "biased"), [("dr_grpo", False), ("grpo", True)])
def test_dr_grpo_weighs_a_token_alike_in_short_and_long_rollouts(name, biased):
    """Two rollouts of equal advantage; the same token, at the same place, in a short and in a long one."""
    spec = preset(name)
    mask = torch.tensor([[True, False, False, False], [True] * 4])
    rows = Rows(
        target_BK=torch.zeros(2, 4, dtype=torch.long),
        mask_BK=mask,
        count_B=torch.ones(2),
        gain_B=torch.ones(2),
        cost_B=torch.zeros(2),
    )
    leaf = torch.zeros(2, 4, 5).requires_grad_()
    losses = token_losses(spec, leaf * 1.0, rows)
    totals = Totals(num_tokens=5, num_rollouts=2, max_new_tokens=8)
    aggregate(losses.loss_BK, mask, spec.aggregation, totals).backward()
    short, long = leaf.grad[0, 0].norm(), leaf.grad[1, 0].norm()
    assert (short / long).item() == pytest.approx(4.0 if biased else 1.0)


@pytest.mark.parametrize(
    "name", [n for n in ROLLOUT_OBJECTIVES if preset(n).is_relative and not preset(n).kl_coef]
)
def test_equal_rewards_teach_nothing(name, monkeypatch):
    monkeypatch.setattr("tests.trainers.objectives.test_loss.REWARDS", torch.full((5,), 0.3))
    assert ours(spec_of(name), LOGITS)[1].abs().max() == 0


@pytest.mark.parametrize("name", ROLLOUT_OBJECTIVES)
def test_an_empty_completion_and_padding_get_no_gradient_whatever_stands_there(name):
    wild = LOGITS.clone()
    wild[~MASK] = 1e4 * draw(*LOGITS.shape, seed=5)[~MASK]
    (loss, gradient), (tame_loss, tame) = ours(spec_of(name), wild), ours(spec_of(name), LOGITS)
    assert loss == tame_loss
    assert torch.equal(gradient[~MASK], torch.zeros_like(gradient[~MASK]))
    assert torch.equal(gradient[MASK], tame[MASK])


@pytest.mark.parametrize("kind", ["token", "sequence", "sum", "dr"])
def test_nothing_but_empty_completions_is_a_loss_of_zero(kind):
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    totals = Totals(num_tokens=1, num_rollouts=2, max_new_tokens=8)
    assert aggregate(torch.ones(2, 3), nothing, kind, totals) == 0


def test_awareness_of_negatives_without_a_step_taken_has_the_gradient_of_centered_rewards(monkeypatch):
    """ "NFT and GRPO are equivalent in strict on-policy training" (arXiv 2505.18116)."""
    centered = preset("dr_grpo", group_size=len(DRAWN), clip_low=0.0, clip_high=0.0)
    found = ours(spec_of("nft"), LOGITS)[1]
    monkeypatch.setattr("tests.trainers.objectives.test_loss.REWARDS", RIGHT)
    monkeypatch.setattr("tests.trainers.objectives.test_loss.GROUP", len(DRAWN))
    torch.testing.assert_close(found, ours(centered, LOGITS)[1])


def trl_trainer(kind: str, spec: ObjectiveSpec, aggregation: str) -> SimpleNamespace:
    """What TRL's loss reads off its trainer, around given logits; one process, no accumulation."""
    whole = SimpleNamespace(
        gather=lambda x: x,
        gather_for_metrics=lambda x: x,
        reduce=lambda x, reduction: x,
        num_processes=1,
        sync_gradients=False,
    )

    def per_token(model: object, ids: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor, None]:
        drawn = model.logits[DRAWN]  # type: ignore[attr-defined]
        log_p = torch.log_softmax(drawn / spec.temperature, -1)
        chosen = log_p.gather(-1, TARGETS[DRAWN][..., None])[..., 0]
        return chosen, -(log_p.exp() * log_p).sum(-1), None

    return SimpleNamespace(
        _get_per_token_logps_and_entropies=per_token,
        _metrics={"train": defaultdict(list)},
        _entropy_bonus_enabled=spec.entropy_weight < 0,
        accelerator=whole,
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1),
        aux_loss_enabled=False,
        beta=spec.kl_coef if kind == "grpo" else 0.0,
        current_gradient_accumulation_steps=1,
        entropy_coef=-spec.entropy_weight,
        epsilon_high=spec.clip_high,
        epsilon_low=spec.clip_low,
        importance_sampling_level="token",
        loss_type=aggregation,
        max_completion_length=MAX_NEW_TOKENS,
        model=SimpleNamespace(training=True),
        off_policy_mask_threshold=None,
        top_entropy_quantile=1.0,
        use_adaptive_entropy=False,
        use_vllm=False,
    )


def trl_inputs(spec: ObjectiveSpec) -> dict[str, torch.Tensor]:
    return {
        "prompt_ids": torch.zeros(16, 1, dtype=torch.long),
        "prompt_mask": torch.ones(16, 1, dtype=torch.long),
        "completion_ids": TARGETS[DRAWN],
        "completion_mask": MASK[DRAWN].long(),
        "advantages": torch.tensor(advantages_of(spec)),
    }


@pytest.mark.parametrize(
    ("name", "aggregation"),
    [
        ("grpo", "grpo"),
        ("dr_grpo", "dr_grpo"),
        ("dapo", "dapo"),
        ("rlvr_one_shot", "bnpo"),
        ("self_certainty", "grpo"),
    ],
)
@pytest.mark.parametrize("drift", [0.0, 0.4])
def test_trl_computes_the_same_loss_and_gradient(name, aggregation, drift):
    trl = pytest.importorskip("trl", reason="trl is a test extra")
    spec = spec_of(name)
    old = log_probs(spec, LOGITS) + drift * draw(len(LENGTHS), WIDTH, seed=4)
    leaf = LOGITS.clone().requires_grad_()
    inputs = {
        **trl_inputs(spec),
        "old_per_token_logps": old[DRAWN],
        "ref_per_token_logps": REFERENCE[DRAWN],
        "num_items_in_batch": torch.tensor(NUM_TOKENS),
    }
    trainer = trl_trainer("grpo", spec, aggregation)
    theirs = trl.GRPOTrainer._compute_loss(trainer, SimpleNamespace(logits=leaf), inputs)
    theirs.backward()
    loss, gradient = ours(spec, LOGITS, old.masked_fill(~MASK, 0))
    assert loss == pytest.approx(theirs.item(), abs=1e-5)
    torch.testing.assert_close(gradient.double(), leaf.grad, atol=1e-5, rtol=1e-5)


def test_trl_computes_the_same_leave_one_out_gradient():
    trl = pytest.importorskip("trl", reason="trl is a test extra")
    spec = spec_of("rloo")
    leaf = LOGITS.clone().requires_grad_()
    inputs = {
        **trl_inputs(spec),
        "old_logps": (log_probs(spec, LOGITS) * MASK).sum(1)[DRAWN],
    }
    clipping = preset("rloo", clip_low=0.2, clip_high=0.2)
    trainer = trl_trainer("rloo", clipping, "sum")
    trl.RLOOTrainer._compute_loss(trainer, SimpleNamespace(logits=leaf), inputs).backward()
    torch.testing.assert_close(ours(spec, LOGITS)[1].double(), leaf.grad, atol=1e-5, rtol=1e-5)
