"""Rows decoded at once fit the memory given, and no real model takes more than is counted."""

from __future__ import annotations

import weakref
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM, Gemma3ForCausalLM, Gemma3TextConfig

from tests.trainers.worlds import package_file
from trainers.decoding import DecodeRequest
from trainers.decoding.cached import decode_cached, decode_in_parts
from trainers.decoding.rows import cache_bytes, model_memory, row_bytes, rows_that_fit
from trainers.decoding.sampler import Sampler
from trainers.noise import Stream, uniforms

NO_EOS = 10**6


class Live(TorchDispatchMode):
    """Adds up the memory of all tensors that live, but for a model's own."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self._model = {p.untyped_storage()._cdata for p in model.parameters()}
        self._tensors: dict[int, int] = {}
        self._bytes = self.peak_bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs: Mapping | None = None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage()._cdata not in self._model:
                key, size = tensor.untyped_storage()._cdata, tensor.untyped_storage().nbytes()
                if key not in self._tensors:
                    self._bytes += size
                    self.peak_bytes = max(self.peak_bytes, self._bytes)
                self._tensors[key] = self._tensors.get(key, 0) + 1
                weakref.finalize(tensor, self._gone, key, size)
        return out

    def _gone(self, key: int, size: int) -> None:
        self._tensors[key] -= 1
        if not self._tensors[key]:
            del self._tensors[key]
            self._bytes -= size


@pytest.fixture(
    scope="module", params=["tiny-64", "tiny-64-llama", "tiny-64-gpt-neox", "tiny-64-gemma", "windows"]
)
def model(request) -> torch.nn.Module:
    if request.param != "windows":
        folder = package_file(f"trainers/tiny/models/{request.param}")
        return AutoModelForCausalLM.from_pretrained(folder).eval()
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=16,
        vocab_size=5000,
        sliding_window=16,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
    )
    return Gemma3ForCausalLM(config).eval()


def request_of(rows: int, prompt_tokens: int, new_tokens: int, vocab_size: int, eos: int) -> DecodeRequest:
    """Rows of a prompt each, so that no two share a prefix; some prompts are shorter."""
    generator = np.random.default_rng(0)
    prompts = [generator.integers(3, 17, prompt_tokens - row % 3).tolist() for row in range(rows)]
    return DecodeRequest(
        prompts=prompts,
        prompt_of_row=np.arange(rows),
        samplers=[Sampler(temperature=1.5, top_p=0.95), Sampler(temperature=0)],
        sampler_of_row=np.arange(rows) % 2,
        uniforms=lambda position: uniforms(7, Stream.ROLLOUT, 0, position, rows),
        max_new_tokens=new_tokens,
        eos_ids=(eos,),
        vocab_size=vocab_size,
    )


@pytest.mark.parametrize(("prompt_tokens", "new_tokens"), [(6, 24), (60, 8), (20, 90)])
def test_a_real_models_memory_stays_below_what_is_counted_of_its_rows(model, prompt_tokens, new_tokens):
    rows, vocab_size = 12, model.config.vocab_size
    request = request_of(rows, prompt_tokens, new_tokens, vocab_size, NO_EOS)
    held: list[int] = []

    def look(module, args, out) -> None:
        layers = out.past_key_values.layers
        held.append(sum(t.untyped_storage().nbytes() for layer in layers for t in (layer.keys, layer.values)))

    handle = model.register_forward_hook(look)
    with torch.no_grad(), Live(model) as live:
        completions = decode_cached(model, request)
    handle.remove()
    assert {len(c) for c in completions} == {new_tokens}
    memory = model_memory(model.config, 4)
    counted = rows * cache_bytes(memory, prompt_tokens, new_tokens)
    assert 0.5 * counted < max(held) <= counted
    assert 0.25 * rows * row_bytes(memory, prompt_tokens, new_tokens) < live.peak_bytes
    assert live.peak_bytes <= rows * row_bytes(memory, prompt_tokens, new_tokens)


@given(
    asked=st.integers(1, 4096),
    row=st.integers(1, 2**34),
    budget=st.integers(0, 2**40),
    less=st.floats(0.8, 1),
)
def test_rows_fit_their_budget_and_are_all_that_are_asked_for_where_those_fit(asked, row, budget, less):
    if budget < row:
        with pytest.raises(MemoryError, match=r"a row takes up to .* GiB"):
            rows_that_fit(asked, row, budget)
        return
    rows = rows_that_fit(asked, row, budget)
    assert 1 <= rows <= asked
    assert rows * row <= budget
    assert rows == asked if asked * row <= budget else 2 * rows * row > budget
    if less * budget >= row:  # a little less memory makes no other number, or one that is the largest again
        fewer = rows_that_fit(asked, row, int(less * budget))
        assert fewer == asked or (fewer <= rows and 2 * fewer * row > int(less * budget) - row)


@pytest.mark.parametrize("rows", [1, 5, 12, 40])
def test_parts_draw_the_completions_that_all_rows_at_once_draw(model, rows):
    request = request_of(12, 6, 10, model.config.vocab_size, eos=2)
    widths: list[int] = []
    handle = model.register_forward_pre_hook(
        lambda module, args, kwargs: widths.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    with torch.no_grad():
        parts = decode_in_parts(model, request, rows=rows)
    handle.remove()
    with torch.no_grad():
        assert parts == decode_in_parts(model, request, rows=0)
    assert max(widths) == min(rows, 12)
