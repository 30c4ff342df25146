"""The loss of given completions against its formula, and against what must not change it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sweeps.spec import ObjectiveSpec
from tests.trainers.presets import preset
from trainers.objectives.entropy import token_entropy
from trainers.objectives.given import GivenRows, given_loss, given_terms
from trainers.objectives.loss import Totals

LENGTHS = [3, 1, 4, 2]
"""Tokens of each completion that are counted."""

WIDTH, VOCABULARY = 4, 7
MASK = torch.arange(WIDTH) < torch.tensor(LENGTHS)[:, None]
TAKEN = torch.tensor([True, True, False, True])
"""The third is the rejected one of a pair: no example to follow."""

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(4, WIDTH, VOCABULARY, generator=GENERATOR, dtype=torch.float64)
TARGETS = torch.randint(VOCABULARY, (4, WIDTH), generator=GENERATOR)
TOTALS = Totals(num_tokens=6, num_rollouts=3, max_new_tokens=1)

KINDS = {
    "sft": {},
    "smoothed": {"label_smoothing": 0.2},
    "dft": {"nll_dft": True},
    "halved": {"nll_weight": 0.5},
    "by sequence": {"aggregation": "sequence"},
    "sums": {"aggregation": "sum"},
}


def log_p(logits: Tensor) -> Tensor:
    return torch.log_softmax(logits, -1)


def by_formula(spec: ObjectiveSpec, logits: Tensor, held: Tensor) -> float:
    """One token after another; ``held`` are the logits of probabilities that are constants."""
    total = 0.0
    for row, length in enumerate(LENGTHS):
        if not TAKEN[row]:
            continue
        for t in range(length):
            target, all_v = int(TARGETS[row, t]), log_p(logits[row, t])
            term = -all_v[target].item()
            if spec.nll_dft:
                term *= log_p(held[row, t])[target].exp().item()
            smoothed = (1 - spec.label_smoothing) * term - spec.label_smoothing * all_v.mean().item()
            total += smoothed * {"token": 1 / 6, "sequence": 1 / (3 * length), "sum": 1 / 3}[spec.aggregation]
    return spec.nll_weight * total


def ours(
    spec: ObjectiveSpec, logits: Tensor, rows: list[int] | None = None, slope: Tensor | None = None
) -> tuple[float, Tensor]:
    """Loss and gradient of some of the rows, as one micro batch."""
    chosen = [0, 1, 2, 3] if rows is None else rows
    leaf = logits[chosen].float().requires_grad_()
    given = GivenRows(
        target_BK=TARGETS[chosen],
        mask_BK=MASK[chosen],
        nll_BK=MASK[chosen] & TAKEN[chosen][:, None],
        slope_B=None if slope is None else slope[chosen].float(),
    )
    loss = given_loss(spec, leaf * 1.0, given, TOTALS)
    loss.differentiable.backward()
    return loss.nll.item(), leaf.grad


@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradient_equal_the_formula_and_its_finite_differences(kind):
    spec = preset("sft", **KINDS[kind])
    loss, gradient = ours(spec, LOGITS)
    assert loss == pytest.approx(by_formula(spec, LOGITS, LOGITS), abs=2e-6)
    step = 1e-5
    for index in range(0, LOGITS.numel(), 3):
        bump = torch.zeros(LOGITS.numel(), dtype=torch.float64)
        bump[index] = step
        bump = bump.view_as(LOGITS)
        rise = by_formula(spec, LOGITS + bump, LOGITS) - by_formula(spec, LOGITS - bump, LOGITS)
        assert gradient.flatten()[index].item() == pytest.approx(rise / (2 * step), abs=3e-6)


def test_the_entropy_beside_the_loss_has_the_bits_of_the_entropy_alone():
    *_, entropy = given_terms(LOGITS.float().requires_grad_() * 1.0, TARGETS)
    assert torch.equal(entropy, token_entropy(LOGITS.float()))
    assert not entropy.requires_grad


@pytest.mark.parametrize("kind", KINDS)
def test_micro_batches_add_up_to_the_whole(kind):
    spec = preset("sft", **KINDS[kind])
    loss, gradient = ours(spec, LOGITS)
    parts = [ours(spec, LOGITS, rows) for rows in ([0, 3], [1], [2])]
    assert sum(part for part, _ in parts) == pytest.approx(loss, abs=1e-6)
    both, one, other = (part for _, part in parts)
    torch.testing.assert_close(torch.stack([both[0], one[0], other[0], both[1]]), gradient)


def test_padding_gets_no_gradient_whatever_stands_there():
    spec = preset("sft", label_smoothing=0.1)
    wild = LOGITS.clone()
    wild[~MASK] *= 1e4
    (loss, gradient), (tame_loss, tame) = ours(spec, wild), ours(spec, LOGITS)
    assert loss == tame_loss
    assert gradient[~MASK].abs().max() == 0
    assert torch.equal(gradient[MASK], tame[MASK])


def test_a_loss_of_whole_sequences_has_the_gradient_of_its_formula_in_any_micro_batches():
    """Of a pair: −log σ(0.5·(ℓ₁ − ℓ₂)) + (ℓ₀·ℓ₃)², beside half the likelihood of the others."""
    spec = preset("sft", nll_weight=0.5)

    def sequence_loss(ell: Tensor) -> Tensor:
        return -torch.nn.functional.logsigmoid(0.5 * (ell[1] - ell[2])) + (ell[0] * ell[3]) ** 2 / 1000

    def ell_of(logits: Tensor) -> Tensor:
        return (log_p(logits).gather(-1, TARGETS[..., None])[..., 0] * MASK).sum(1)

    ell = ell_of(LOGITS).requires_grad_()
    [slope] = torch.autograd.grad(sequence_loss(ell), ell)
    leaf = LOGITS.clone().requires_grad_()
    weights = (MASK * TAKEN[:, None] / 6).double()
    nll = -(log_p(leaf).gather(-1, TARGETS[..., None])[..., 0] * weights).sum()
    (0.5 * nll + sequence_loss(ell_of(leaf))).backward()
    whole = ours(spec, LOGITS, slope=slope)[1]
    apart = torch.cat([ours(spec, LOGITS, rows, slope)[1] for rows in ([0, 1], [2, 3])])
    for gradient in (whole, apart):
        torch.testing.assert_close(gradient.double(), leaf.grad, atol=1e-6, rtol=1e-5)


def test_trl_computes_the_same_label_smoothing():
    """transformers' label smoother, which TRL takes, on the same shifted labels."""
    from transformers.trainer_pt_utils import LabelSmoother

    spec = preset("sft", label_smoothing=0.1)
    counted = MASK & (TAKEN[:, None] > 0)
    labels = TARGETS.masked_fill(~counted, -100)
    theirs = LabelSmoother(epsilon=0.1)({"logits": LOGITS}, labels)
    assert ours(spec, LOGITS)[0] == pytest.approx(theirs.item(), abs=1e-6)
