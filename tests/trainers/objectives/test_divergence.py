"""Divergences from tokens alone against the whole distributions that they stand for."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sweeps.spec import ObjectiveSpec
from trainers.objectives.divergence import divergence, divergence_on_reference
from trainers.objectives.given import GivenRows, given_loss
from trainers.objectives.loss import Totals

VOCABULARY = 6


def draw(seed: int, spread: float = 1.5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(VOCABULARY, generator=generator, dtype=torch.float64)


def exact(kind: str, log_p: Tensor, log_q: Tensor) -> Tensor:
    """Of p from q, by the sum over all tokens."""

    def kl(log_a: Tensor, log_b: Tensor) -> Tensor:
        return (log_a.exp() * (log_a - log_b)).sum()

    if kind == "js":
        log_mean = torch.log((log_p.exp() + log_q.exp()) / 2)
        return kl(log_p, log_mean) + kl(log_q, log_mean)
    return kl(log_q, log_p) if kind == "forward" else kl(log_p, log_q)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(0, 10_000))
@pytest.mark.parametrize("kind", ["reverse", "forward", "js", "k3"])
def test_the_mean_over_drawn_tokens_is_the_divergence_and_so_is_its_gradient(kind, seed, other):
    logits = draw(seed).requires_grad_()
    log_q = torch.log_softmax(draw(other), -1)
    log_p = torch.log_softmax(logits, -1)
    values = divergence(kind, log_p[None], log_q[None])[0]
    drawn = log_p.exp().detach()
    whole = exact(kind, log_p, log_q)
    assert (drawn * values).sum().item() == pytest.approx(whole.item(), abs=1e-9)
    assert values.min() > -1e-12
    [found] = torch.autograd.grad((drawn * values).sum(), logits, retain_graph=True)
    # k3 is known for it: the value of one, the gradient of the other
    [expected] = torch.autograd.grad(exact("forward", log_p, log_q) if kind == "k3" else whole, logits)
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("kind", ["reverse", "forward", "js", "k3"])
def test_equal_policies_do_not_diverge_and_are_not_pushed_apart(kind):
    leaf = torch.log_softmax(draw(1), -1).requires_grad_()
    value = divergence(kind, leaf[None], leaf.detach()[None])
    value.sum().backward()
    assert value.abs().max() < 1e-12
    assert leaf.grad.abs().max() < 1e-12


@pytest.mark.parametrize("kind", ["reverse", "forward", "js"])
def test_a_token_that_one_policy_all_but_rules_out_is_no_nan(kind):
    leaf = torch.tensor([[-200.0, 0.0]], requires_grad=True)
    values = divergence(kind, leaf, torch.tensor([[0.0, -200.0]]))
    values.sum().backward()
    assert values.isfinite().all()
    assert leaf.grad.isfinite().all()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(0, 10_000))
@pytest.mark.parametrize("kind", ["reverse", "forward", "js"])
def test_so_is_the_mean_over_tokens_that_the_reference_draws(kind, seed, other):
    logits = draw(seed).requires_grad_()
    log_q = torch.log_softmax(draw(other), -1)
    log_p = torch.log_softmax(logits, -1)
    values = divergence_on_reference(kind, log_p[None], log_q[None])[0]
    whole = exact(kind, log_p, log_q)
    estimate = (log_q.exp() * values).sum()
    assert estimate.item() == pytest.approx(whole.item(), abs=1e-9)
    assert values.min() > -1e-12
    [found] = torch.autograd.grad(estimate, logits, retain_graph=True)
    [expected] = torch.autograd.grad(whole, logits)
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-9)


def test_given_completions_lose_their_likelihood_and_their_divergence_by_their_weights():
    """Two rows of two and one tokens; the second is no example to follow."""
    logits = torch.stack([torch.stack([draw(1), draw(2)]), torch.stack([draw(3), draw(4)])])
    reference = torch.tensor([[-1.3, -0.4], [-2.0, 0.0]])
    rows = GivenRows(
        target_BK=torch.tensor([[3, 0], [5, 1]]),
        mask_BK=torch.tensor([[True, True], [True, False]]),
        nll_BK=torch.tensor([[True, True], [False, False]]),
        reference_BK=reference,
    )
    spec = ObjectiveSpec(
        name="sft", entropy_weight=0.0, nll_weight=0.3, kl="js", kl_coef=0.7, kl_on="completions"
    )
    totals = Totals(num_tokens=2, num_rollouts=1, max_new_tokens=1)
    leaf = logits.float().requires_grad_()
    found = given_loss(spec, leaf * 1.0, rows, totals)
    found.differentiable.backward()
    plain = logits.clone().requires_grad_()
    log_p = torch.log_softmax(plain[0], -1)[torch.arange(2), torch.tensor([3, 0])]
    u = torch.exp(log_p - reference[0])
    expected = (0.3 * -log_p + 0.7 * (u * u.log() - (u + 1) * torch.log((u + 1) / 2))).sum() / 2
    expected.backward()
    assert found.nll.item() == pytest.approx(expected.item(), abs=1e-6)
    torch.testing.assert_close(leaf.grad.double(), plain.grad, atol=1e-6, rtol=1e-5)
