from __future__ import annotations

import math

import pytest
import torch

from trainers.objectives import chunks
from trainers.objectives.entropy import token_entropy, weighted_token_sum


def logits(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 2).to(dtype)


@pytest.mark.parametrize("temperature", [0.3, 0.5, 1.0, 2.0])
def test_value_equals_minus_sum_p_log_p_in_double_precision(temperature):
    z = logits(3, 5, 17)
    p = torch.softmax(z.double() / temperature, -1)
    expected = -(p * p.log()).sum(-1)
    torch.testing.assert_close(token_entropy(z, temperature).double(), expected, atol=2e-6, rtol=2e-6)


def test_uniform_logits_have_entropy_log_v_and_a_certain_token_has_none():
    assert float(token_entropy(torch.zeros(1, 1, 20))[0, 0]) == pytest.approx(math.log(20), abs=1e-6)
    certain = torch.zeros(1, 1, 20)
    certain[..., 3] = 1e4
    assert float(token_entropy(certain)[0, 0]) == 0.0


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_gradient_equals_finite_differences(temperature):
    z = logits(2, 3, 6).double()
    weight = torch.randn(2, 3, generator=torch.Generator().manual_seed(3)).double()

    def value(at: torch.Tensor) -> torch.Tensor:
        p = torch.softmax(at / temperature, -1)
        return (-(p * p.log()).sum(-1) * weight).sum()

    step = 1e-6
    expected = torch.zeros_like(z)
    for index in range(z.numel()):
        bump = torch.zeros_like(z).view(-1)
        bump[index] = step
        expected.view(-1)[index] = (value(z + bump.view_as(z)) - value(z - bump.view_as(z))) / (2 * step)

    leaf = z.float().requires_grad_()
    (token_entropy(leaf * 1.0, temperature) * weight.float()).sum().backward()
    torch.testing.assert_close(leaf.grad.double(), expected, atol=2e-6, rtol=1e-4)


def test_chunks_change_no_bit_of_value_or_gradient(monkeypatch):
    def run() -> tuple[torch.Tensor, torch.Tensor]:
        leaf = logits(4, 9, 33).requires_grad_()
        h = token_entropy(leaf * 1.0, 0.5)
        h.sum().backward()
        return h.detach(), leaf.grad

    whole = run()
    monkeypatch.setitem(chunks.CHUNK_ELEMENTS, "cpu", 70)
    chunked = run()
    assert torch.equal(whole[0], chunked[0])
    assert torch.equal(whole[1], chunked[1])


def test_half_precision_logits_are_judged_in_fp32():
    z = logits(2, 4, 50, dtype=torch.bfloat16)
    assert token_entropy(z).dtype == torch.float32
    torch.testing.assert_close(token_entropy(z), token_entropy(z.float()), atol=0, rtol=0)


def test_a_masked_out_token_adds_nothing():
    z = logits(1, 2, 5)
    padded = torch.cat([z, torch.full((1, 2, 3), -torch.inf)], -1).requires_grad_()
    h = token_entropy(padded * 1.0)
    h.sum().backward()
    torch.testing.assert_close(h, token_entropy(z))
    assert torch.isfinite(padded.grad).all()


def test_multiplicity_equals_repeating_the_rows():
    values, mask = torch.rand(3, 4), torch.rand(3, 4) > 0.4
    counts = torch.tensor([5, 1, 2])
    merged = weighted_token_sum(values, mask, counts.float())
    repeated = weighted_token_sum(
        values.repeat_interleave(counts, 0), mask.repeat_interleave(counts, 0), torch.ones(8)
    )
    torch.testing.assert_close(merged, repeated)
