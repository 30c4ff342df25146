"""The growing cache holds what the library's holds, and appends without copying."""

from __future__ import annotations

from importlib.metadata import version

import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.cache_utils import DynamicLayer

from tests.trainers.worlds import package_file
from trainers.decoding.kv import CHECKED_VERSION, ROOM, growing_cache


@pytest.fixture(scope="module", params=["tiny-32", "tiny-64-gpt-neox", "tiny-64-gemma"])
def model(request):
    return AutoModelForCausalLM.from_pretrained(package_file(f"trainers/tiny/models/{request.param}")).eval()


@torch.inference_mode()
def logits(model, cache, ids_BT, tokens_TB, rows_at):
    """Logits of a prefill and of every token after it; rows are selected or repeated on the way."""
    step_logits = [model(input_ids=ids_BT, past_key_values=cache, use_cache=True).logits[:, -1]]
    for step, token_B in enumerate(tokens_TB):
        num_rows = len(step_logits[-1])
        if step in rows_at:
            cache.batch_select_indices(rows_at[step])
            num_rows = len(rows_at[step])
        out = model(input_ids=token_B[:num_rows, None], past_key_values=cache, use_cache=True)
        step_logits.append(out.logits[:, -1])
    return step_logits


@pytest.mark.parametrize("max_tokens", [8, 2 * ROOM], ids=["more tokens than expected", "fewer"])
def test_logits_are_those_of_the_librarys_cache_whatever_rows_are_kept(model, max_tokens):
    generator = torch.Generator().manual_seed(0)
    ids_BT = torch.randint(3, 17, (4, 9), generator=generator)
    tokens_TB = torch.randint(3, 17, (ROOM + 20, 6), generator=generator)
    rows_at = {
        3: torch.tensor([0, 0, 2, 3, 3, 1]),
        ROOM - 5: torch.tensor([5, 1]),
        ROOM + 9: torch.tensor([1]),
    }
    ours = logits(model, growing_cache(model, max_tokens), ids_BT, tokens_TB, rows_at)
    theirs = logits(model, DynamicCache(config=model.config), ids_BT, tokens_TB, rows_at)
    for ours_step, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(ours_step, other, rtol=0, atol=2e-5)


def test_tokens_are_appended_in_place_while_there_is_room_also_after_rows_were_selected(model):
    cache = growing_cache(model, 2 * ROOM)
    places = set()
    with torch.inference_mode():
        for step in range(ROOM):
            if step == 10:
                cache.batch_select_indices(torch.tensor([0, 0]))
            ids_BT = torch.full((1 if step < 10 else 2, 1), 5)
            model(input_ids=ids_BT, past_key_values=cache, use_cache=True)
            places.add(cache.layers[0].keys.data_ptr())
    assert len(places) == 2
    assert cache.get_seq_length() == ROOM


def test_a_cache_takes_no_more_room_than_the_tokens_expected(model):
    cache = growing_cache(model, 20)
    with torch.inference_mode():
        model(input_ids=torch.tensor([[5] * 9]), past_key_values=cache, use_cache=True)
    keys = cache.layers[0].keys
    assert keys.untyped_storage().nbytes() == keys.nbytes * 20 // 9


def test_the_librarys_cache_has_inside_what_ours_is_built_on():
    installed = version("transformers")
    assert installed == CHECKED_VERSION, (
        f"read trainers/decoding/kv.py against transformers {installed}, then name it there"
    )
    layer = DynamicLayer()
    assert (layer.is_initialized, layer.keys, layer.values) == (False, None, None)
    layer.lazy_initialization(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1))
    assert layer.is_initialized
    overridden = {"update", "batch_select_indices"}
    assert overridden <= vars(DynamicLayer).keys(), "an override of nothing would change nothing"
