from __future__ import annotations

import math

import pytest
import torch

from sweeps.spec import SpecError, group_canonical
from tests.trainers.worlds import tiny_spec
from trainers.decoding.em_inf import Sharpening, lower_entropy
from trainers.decoding.sampler import Sampler
from trainers.policy_trainer import PolicyTrainer
from trainers.protocol import RunContext, WorkerContext

PUBLISHED = Sharpening(steps=3, threshold_nats=0.3, kl_coef=0.05, lr=0.1)


def logits(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 2


def entropy(z: torch.Tensor) -> torch.Tensor:
    return torch.distributions.Categorical(logits=z).entropy()


@pytest.mark.parametrize(("steps", "kl_coef"), [(1, 0.05), (3, 0.0), (15, 0.05), (15, 2.0)])
def test_it_is_torchs_adam_on_the_objective(steps, kl_coef):
    start = logits(6, 9).double()
    leaf = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([leaf], lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        log_p = torch.log_softmax(leaf, -1)
        apart = (log_p.exp() * (log_p - torch.log_softmax(start, -1))).sum(-1)
        (entropy(leaf).clamp(min=0.3) + kl_coef * apart).sum().backward()
        optimizer.step()
    lowered = lower_entropy(start, Sharpening(steps=steps, threshold_nats=0.3, kl_coef=kl_coef, lr=0.1))
    torch.testing.assert_close(lowered.double(), leaf.detach(), atol=2e-3, rtol=1e-3)


def test_entropy_falls_and_the_likeliest_token_stays():
    z = logits(20, 30)
    lowered = lower_entropy(z, PUBLISHED)
    assert (entropy(lowered) < entropy(z)).all()
    assert torch.equal(lowered.argmax(-1), z.argmax(-1))


def test_a_distribution_below_the_threshold_is_left_as_it_is_and_none_sees_another():
    certain = torch.tensor([[9.0, 0, 0, 0]])
    assert torch.equal(lower_entropy(certain, PUBLISHED), certain)
    both = lower_entropy(torch.cat([certain, logits(1, 4)]), PUBLISHED)
    assert torch.equal(both[:1], certain)
    assert torch.equal(both[1:], lower_entropy(logits(1, 4), PUBLISHED))


def test_a_token_that_cannot_be_drawn_never_will_be():
    z = torch.cat([logits(2, 5), torch.full((2, 1), -torch.inf)], -1)
    cumulative = Sampler(sharpening=PUBLISHED).cumulative(z, None)
    assert torch.isfinite(cumulative).all()
    assert torch.equal(cumulative[:, -1], cumulative[:, -2])


def test_it_judges_the_base_model_sharper_and_trains_nothing():
    trainer = PolicyTrainer(WorkerContext())
    try:
        plain, sharp = (
            trainer.run(tiny_spec(steps=1, eval={"em_inf_steps": n, "limit": 200}), RunContext()).metrics
            for n in (0, 15)
        )
    finally:
        trainer.close()
    assert plain["first_entropy_nats"] == sharp["first_entropy_nats"]
    assert sharp["base_accuracy_greedy"] == plain["base_accuracy_greedy"]
    assert sharp["base_accuracy_sampled"] > plain["base_accuracy_sampled"] + 0.02


def test_evaluations_without_it_are_identified_as_before():
    assert "em_inf" not in group_canonical("eval", tiny_spec().eval)
    with pytest.raises(SpecError, match=r"eval.em_inf_kl=-1.0: must be at least 0"):
        tiny_spec(eval={"em_inf_kl": -1.0})
    assert math.isclose(tiny_spec(eval={"em_inf_steps": 3}).eval.em_inf_threshold, 0.3)
