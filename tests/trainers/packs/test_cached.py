"""A member's completions of a benchmark are those that the module's own decoder draws."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from tests.trainers.packs.test_forward import model_of, shaken
from tests.trainers.worlds import tiny_spec
from trainers.decoding import DecodeRequest
from trainers.decoding.cached import decode_cached
from trainers.decoding.em_inf import Sharpening
from trainers.decoding.sampler import Sampler
from trainers.model.base_model import load_base
from trainers.noise import Stream, uniforms
from trainers.packs.cached import PREFILLED_ROWS, decode_rows
from trainers.packs.stack import Stack

EM_INF = Sharpening(steps=2, threshold_nats=0.1, kl_coef=0.05, lr=0.1)


@pytest.fixture(
    scope="module",
    params=["tiny-64", "tiny-96-llama", "tiny-64-gemma", "tiny-64-gpt-neox", "gpt-neox-sequential"],
)
def world(request):
    model = shaken(model_of(request.param), 0)
    return model, Stack(model, 1), load_base(tiny_spec("tiny-64").model)


def request_of(base, *, lengths: tuple[int, int], num_prompts: int, max_new_tokens: int, sharpening=None):
    """Each prompt completed once greedily and twice at random."""
    draw = random.Random(num_prompts)
    prompts = [[draw.randrange(3, 13) for _ in range(draw.randint(*lengths))] for _ in range(num_prompts)]
    each = 3
    return DecodeRequest(
        prompts=prompts,
        prompt_of_row=np.repeat(np.arange(num_prompts), each),
        samplers=[
            Sampler(temperature=0.0, sharpening=sharpening),
            Sampler(temperature=1.4, top_p=0.95, sharpening=sharpening),
        ],
        sampler_of_row=np.tile([0, 1, 1], num_prompts),
        uniforms=lambda at: uniforms(3, Stream.EVALUATION, 0, at, each * num_prompts),
        max_new_tokens=max_new_tokens,
        eos_ids=base.eos_ids,
        vocab_size=18,
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"lengths": (6, 6)},
        {"lengths": (3, 9)},
        {"lengths": (2, 20), "num_prompts": 7},
        {"lengths": (6, 6), "max_new_tokens": 40},
        {"lengths": (3, 9), "sharpening": EM_INF, "num_prompts": 12},
        {"lengths": (5, 5), "num_prompts": 1},
    ],
    ids=["even", "uneven", "wide", "long", "sharpened", "one"],
)
def test_completions_are_those_of_the_modules_own_decoder(world, changes):
    model, stack, base = world
    request = request_of(base, **{"num_prompts": PREFILLED_ROWS + 9, "max_new_tokens": 20, **changes})
    with torch.inference_mode():
        expected = decode_cached(model, request, pad_id=base.pad_id)
    assert decode_rows(stack.matrices(None), stack.rotation, stack.shape, request, base.pad_id) == expected
    assert len({len(completion) for completion in expected}) > 1 or len(request.prompts) == 1
