from __future__ import annotations

import pytest
import torch

from trainers.objectives import chunks
from trainers.objectives.entropy import token_entropy
from trainers.objectives.likelihood import token_statistics, token_terms


def logits(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 2


def targets(*shape: int, vocabulary: int) -> torch.Tensor:
    return torch.randint(vocabulary, shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("temperature", [0.4, 1.0, 1.6])
@pytest.mark.parametrize("with_entropy", [False, True])
def test_values_and_gradient_equal_autograd_in_double_precision(temperature, with_entropy):
    z, y = logits(3, 5, 11), targets(3, 5, vocabulary=11)
    weights = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(2)) * torch.tensor(
        [1.0, float(with_entropy)]
    ).view(2, 1, 1)

    exact = z.double().requires_grad_()
    log_p = torch.log_softmax(exact / temperature, -1)
    chosen = log_p.gather(-1, y[..., None])[..., 0]
    entropy = -(log_p.exp() * log_p).sum(-1)
    (chosen * weights[0] + entropy * weights[1]).sum().backward()

    leaf = z.clone().requires_grad_()
    terms = token_terms(leaf * 1.0, y, temperature, with_entropy=with_entropy)
    (terms[0] * weights[0] + terms[1] * weights[1]).sum().backward()
    torch.testing.assert_close(terms[0].double(), chosen, atol=5e-6, rtol=1e-5)
    if with_entropy:
        torch.testing.assert_close(terms[1].double(), entropy, atol=5e-6, rtol=1e-5)
    torch.testing.assert_close(leaf.grad.double(), exact.grad, atol=5e-6, rtol=1e-4)


def test_chunks_change_no_bit(monkeypatch):
    def run() -> list[torch.Tensor]:
        leaf = logits(4, 9, 33).requires_grad_()
        log_p, entropy = token_terms(leaf * 1.0, targets(4, 9, vocabulary=33), 0.5, with_entropy=True)
        (log_p * 2 + entropy).sum().backward()
        measured = token_statistics(leaf.detach(), targets(4, 9, vocabulary=33), 0.5)
        return [log_p, entropy, leaf.grad, measured.certainty_BT]

    whole = run()
    monkeypatch.setitem(chunks.CHUNK_ELEMENTS, "cpu", 70)
    assert all(torch.equal(a, b) for a, b in zip(whole, run(), strict=True))


def test_statistics_agree_with_what_training_sees():
    z, y = logits(2, 3, 8), targets(2, 3, vocabulary=8)
    terms = token_statistics(z, y, 0.5)
    log_p, entropy = token_terms(z, y, 0.5, with_entropy=True)
    assert torch.equal(terms.log_prob_BT, log_p)
    assert torch.equal(terms.entropy_BT, entropy)
    assert torch.equal(terms.entropy_BT, token_entropy(z, 0.5))


def test_self_certainty_is_the_divergence_from_guessing_and_blind_to_shifts():
    z, y = logits(2, 3, 8), targets(2, 3, vocabulary=8)
    uniform = torch.full((8,), 1 / 8)
    divergence = (uniform * (uniform.log() - torch.log_softmax(z, -1))).sum(-1)
    terms = token_statistics(z, y, 1.0).certainty_BT
    torch.testing.assert_close(terms, divergence + torch.tensor(8.0).log())
    torch.testing.assert_close(terms, token_statistics(z + 37.5, y, 1.0).certainty_BT, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(terms, z.logsumexp(-1) - z.mean(-1))


def test_a_token_masked_out_of_the_vocabulary_does_not_spoil_the_others():
    z, y = logits(1, 2, 5), targets(1, 2, vocabulary=5)
    padded = torch.cat([z, torch.full((1, 2, 3), -torch.inf)], -1).requires_grad_()
    log_p, entropy = token_terms(padded * 1.0, y, with_entropy=True)
    (log_p + entropy).sum().backward()
    torch.testing.assert_close(log_p, token_terms(z, y)[0])
    assert torch.isfinite(padded.grad).all()
