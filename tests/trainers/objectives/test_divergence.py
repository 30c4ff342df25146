"""Divergences from tokens alone against the whole distributions that they stand for."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainers.objectives.divergence import divergence

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
