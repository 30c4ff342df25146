from __future__ import annotations

import pytest
import torch
from transformers import (
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from trainers.decoding.sampler import Sampler, draw, seen_tokens

LOGITS = torch.randn(40, 23, generator=torch.Generator().manual_seed(1)) * 3
PREFIX = torch.randint(0, 23, (40, 6), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    "sampler",
    [
        Sampler(temperature=0.5, top_p=0.95, repetition_penalty=1.15),
        Sampler(temperature=1.3, top_k=5),
        Sampler(temperature=1.0, top_p=0.3),
        Sampler(temperature=0.7, top_k=7, top_p=0.8, repetition_penalty=0.8),
    ],
)
def test_distribution_equals_that_of_transformers_generate(sampler):
    z = RepetitionPenaltyLogitsProcessor(sampler.repetition_penalty)(PREFIX, LOGITS.clone())
    z = TemperatureLogitsWarper(sampler.temperature)(PREFIX, z)
    if sampler.top_k:
        z = TopKLogitsWarper(sampler.top_k)(PREFIX, z)
    z = TopPLogitsWarper(sampler.top_p)(PREFIX, z)
    expected = torch.softmax(z, -1)

    cumulative = sampler.cumulative(LOGITS, seen_tokens(PREFIX, torch.full((40,), 6), 23))
    mass = torch.diff(cumulative, dim=-1, prepend=torch.zeros(40, 1, dtype=torch.float64))
    mass = mass / cumulative[:, -1:]
    torch.testing.assert_close(mass.float(), expected, atol=1e-6, rtol=1e-5)


def test_greedy_takes_the_most_likely_token_whatever_the_noise():
    cumulative = Sampler(temperature=0).cumulative(LOGITS, None)
    for uniform in (0.0, 0.5, 1 - 2**-53):
        drawn = draw(cumulative, torch.full((40,), uniform, dtype=torch.float64))
        assert torch.equal(drawn, LOGITS.argmax(-1))


def test_a_token_of_zero_mass_is_never_drawn_and_the_others_in_proportion():
    p = torch.tensor([[0.0, 0.25, 0.0, 0.75, 0.0]])
    cumulative = p.double().cumsum(-1).expand(4000, -1)
    uniform = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    counts = torch.bincount(draw(cumulative, uniform), minlength=5)
    assert counts.tolist() == [0, 1000, 0, 3000, 0]
    assert int(draw(cumulative[:1], torch.zeros(1, dtype=torch.float64))) == 1


def test_seen_tokens_ignore_what_lies_past_a_rows_length():
    seen = seen_tokens(torch.tensor([[1, 2, 9], [3, 3, 9]]), torch.tensor([2, 3]), 10)
    assert seen.nonzero().tolist() == [[0, 1], [0, 2], [1, 3], [1, 9]]
