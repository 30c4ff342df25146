"""Both decoders against the slowest thing that is right: one row, one token, one full forward at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.trainers.worlds import package_file
from trainers.decoding import Completion, DecodeRequest, choose_decoder
from trainers.decoding.cached import decode_cached
from trainers.decoding.sampler import Sampler, draw, seen_tokens
from trainers.decoding.tree import decode_tree
from trainers.noise import Stream, uniforms

EOS = (2,)
PROMPTS = [[7, 10, 13, 6, 11, 14], [9, 9, 13, 4, 10, 14, 15], [6, 14]]


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    torch.set_num_threads(1)
    folder = package_file("trainers/tiny/models/tiny-64")
    return AutoModelForCausalLM.from_pretrained(folder).eval()


def request(prompt_of_row: list[int], samplers: list[Sampler], **changes) -> DecodeRequest:
    rows = len(prompt_of_row)
    fields = {
        "prompts": PROMPTS,
        "prompt_of_row": np.array(prompt_of_row),
        "samplers": samplers,
        "sampler_of_row": np.arange(rows) % len(samplers),
        "uniforms": lambda position: uniforms(7, Stream.ROLLOUT, 0, position, rows),
        "max_new_tokens": 10,
        "eos_ids": EOS,
        "vocab_size": 18,
    }
    return DecodeRequest(**{**fields, **changes})


@torch.no_grad()
def one_by_one(model: torch.nn.Module, wanted: DecodeRequest) -> list[Completion]:
    completions = []
    for row, prompt in enumerate(wanted.prompt_of_row):
        sampler = wanted.samplers[wanted.sampler_of_row[row]]
        ids = list(wanted.prompts[prompt])
        for position in range(wanted.max_new_tokens):
            logits = model(input_ids=torch.tensor([ids])).logits[:, -1]
            seen = seen_tokens(torch.tensor([ids]), torch.tensor([len(ids)]), wanted.vocab_size)
            uniform = torch.tensor([wanted.uniforms(position)[row]])
            ids.append(int(draw(sampler.cumulative(logits, seen), uniform)))
            if ids[-1] in wanted.eos_ids:
                break
        completions.append(tuple(ids[len(wanted.prompts[prompt]) :]))
    return completions


@pytest.mark.parametrize(
    "sampler",
    [
        Sampler(temperature=1.0),
        Sampler(temperature=2.5, top_p=0.9),
        Sampler(temperature=0.5, top_p=0.95, repetition_penalty=1.15),
        Sampler(temperature=0),
    ],
)
@pytest.mark.parametrize("decode", [decode_tree, decode_cached])
def test_equals_token_by_token_sampling(model, sampler, decode):
    wanted = request([0] * 24 + [1] * 24 + [2] * 12, [sampler])
    with torch.no_grad():
        assert decode(model, wanted, pad_id=0) == one_by_one(model, wanted)


def test_drafts_save_forwards_and_change_no_draw(model):
    wanted = request([0] * 64, [Sampler(temperature=1.0)])

    def decode(drafts: list[tuple[int, Completion]]) -> tuple[list[Completion], int]:
        forwards: list[int] = []
        handle = model.register_forward_pre_hook(lambda *_: forwards.append(1))
        with torch.no_grad():
            completions = decode_tree(model, wanted, drafts=drafts)
        handle.remove()
        return completions, len(forwards)

    plain, forwards = decode([])
    assert forwards == max(map(len, plain))
    assert decode([(0, c) for c in dict.fromkeys(plain)]) == (plain, 1)
    assert decode([(0, (3, 3, 3, 2)), (0, (4, 2))])[0] == plain


def test_cached_decoder_mixes_greedy_and_sampled_rows(model):
    wanted = request([0, 0, 1, 1] * 8, [Sampler(temperature=0), Sampler(temperature=1.5)])
    with torch.no_grad():
        assert decode_cached(model, wanted) == one_by_one(model, wanted)


@pytest.mark.parametrize("decode", [decode_tree, decode_cached])
def test_the_limit_cuts_and_a_limit_of_one_draws_one_token(model, decode):
    wanted = request([0] * 8, [Sampler(temperature=1.0)], max_new_tokens=1)
    with torch.no_grad():
        assert {len(c) for c in decode(model, wanted)} == {1}


def test_auto_takes_the_tree_only_for_short_texts_over_small_vocabularies():
    tiny = {"prompt_tokens": 6, "max_new_tokens": 16, "vocab_size": 18}
    assert choose_decoder("auto", **tiny) == "tree"
    assert choose_decoder("cached", **tiny) == "cached"
    for large in ({"prompt_tokens": 400}, {"max_new_tokens": 512}, {"vocab_size": 151_936}):
        assert choose_decoder("auto", **{**tiny, **large}) == "cached"
