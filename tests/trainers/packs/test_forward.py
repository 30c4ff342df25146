"""The packed forward is the model's own, and no member's bits depend on who else is in the pack."""

from __future__ import annotations

import copy
import random
import weakref
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tests.trainers.made_models import save_as_mistral
from tests.trainers.worlds import tiny_spec
from trainers.model.base_model import load_weights
from trainers.packs.adapters import AdapterStack
from trainers.packs.architecture import NotPackable
from trainers.packs.layers import LONGEST_MASK_KEPT, causal_mask
from trainers.packs.loss import weighed
from trainers.packs.stack import Stack
from trainers.packs.tokens import MemberRows, tokens_of
from trainers.tiny import MODELS_DIR

WIDTH, VOCABULARY = 5, 18


VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt-neox-sequential": (
        "tiny-64-gpt-neox",
        {
            "use_parallel_residual": False,
            "hidden_size": 40,
            "num_attention_heads": 5,
            "intermediate_size": 72,
            "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4},
        },
    ),
    "gpt-neox-tied-without-biases": (
        "tiny-64-gpt-neox",
        {"tie_word_embeddings": True, "attention_bias": False, "hidden_act": "gelu_new"},
    ),
    "llama-with-biases": (
        "tiny-64-llama",
        {"attention_bias": True, "mlp_bias": True, "hidden_act": "relu"},
    ),
}
"""Random models: a shipped one with its configuration changed."""


def model_of(name: str) -> torch.nn.Module:
    if name not in VARIANTS:
        return load_weights(tiny_spec(name).model, precision="fp32", attention="sdpa")
    base, changes = VARIANTS[name]
    config = AutoConfig.from_pretrained(MODELS_DIR / base)
    for key, value in changes.items():
        setattr(config, key, value)
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").float().eval()


def shaken(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """A copy with other weights."""
    other, noise = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in other.parameters():
            p += 0.02 * torch.randn(p.shape, generator=noise)
    return other


def member(slot: int, seed: int) -> MemberRows:
    """Up to seven rows of up to 19 tokens, some of whose positions are wanted."""
    draw = random.Random(seed)
    lengths = [draw.randrange(4, 20) for _ in range(draw.randrange(1, 8))]
    rows = [[draw.randrange(VOCABULARY) for _ in range(n)] for n in lengths]
    return MemberRows(
        slot=slot, rows=rows, wanted=[(k, t) for k, n in enumerate(lengths) for t in range(3, n)]
    )


def bits(
    stack: Stack, members: list[MemberRows], slopes: dict[int, torch.Tensor]
) -> dict[int, list[torch.Tensor]]:
    """Logits and gradients of each member, by slot."""
    tokens = tokens_of(members, 0)
    logits_KV = stack(tokens)
    slope_KV, found, first = torch.zeros_like(logits_KV), {}, 0
    places = []
    for m in members:
        places.append(tokens.asked_K[first : first + len(m.wanted)])
        first += len(m.wanted)
        slope_KV[places[-1]] = slopes[m.slot]
    logits_KV.backward(slope_KV)
    for m, place in zip(members, places, strict=True):
        gradients = [g[m.slot].clone() for g in stack.gradients.values()]
        found[m.slot] = [logits_KV.detach()[place], *gradients]
    return found


@pytest.fixture(
    scope="module",
    params=["tiny-64", "tiny-32", "tiny-64-llama", "tiny-64-gemma", "tiny-64-gpt-neox", *VARIANTS],
)
def world(request):
    model = model_of(request.param)
    models = [shaken(model, seed) for seed in range(WIDTH)]
    stack = Stack(model, WIDTH)
    for slot, own in enumerate(models):
        stack.load(slot, dict(own.named_parameters()))
    return models, stack


@pytest.mark.parametrize("name", ["tiny-64", "tiny-64-gpt-neox", "tiny-64-gemma"])
@pytest.mark.parametrize("shared", [False, True], ids=["full", "lora"])
def test_all_that_a_forward_computes_with_lies_where_the_weights_do(name, shared):
    """On torch's device without memory, which no operator mixes with the processor's."""
    model = model_of(name).to("meta")
    model.tie_weights()
    targets = {"q_proj", "query_key_value"}
    stack = AdapterStack(model, 3, rank=8, targets=targets) if shared else Stack(model, 3)
    members = [MemberRows(slot=s, rows=[[1, 2, 3, 4, 5]] * 2, wanted=[(0, 3), (1, 4)]) for s in range(2)]
    logits_KV = stack(tokens_of(members, 0, device=stack.device))
    weighed(logits_KV, *[logits_KV.new_ones(len(logits_KV))] * 2).sum().backward()
    assert {g.device.type for g in (logits_KV, stack.rotation.cos, *stack.gradients.values())} == {"meta"}
    matrices = stack.matrices(0)
    x_NH = matrices.embed[torch.zeros(6, dtype=torch.long, device="meta")]
    assert matrices.of_normed(x_NH, *stack.shape.mixed_blocks(0))[0].device.type == "meta"


def slopes_of(members: list[MemberRows]) -> dict[int, torch.Tensor]:
    return {
        m.slot: torch.randn(len(m.wanted), VOCABULARY, generator=torch.Generator().manual_seed(m.slot))
        for m in members
    }


def test_logits_and_gradients_are_those_of_the_models_one_by_one(world):
    models, stack = world
    members = [member(slot, slot) for slot in range(WIDTH)]
    slopes = slopes_of(members)
    packed = bits(stack, members, slopes)
    for m, model in zip(members, models, strict=True):
        model.zero_grad()
        rows = [model(input_ids=torch.tensor([row])).logits[0] for row in m.rows]
        logits_KV = torch.stack([rows[k][t] for k, t in m.wanted])
        logits_KV.backward(slopes[m.slot])
        torch.testing.assert_close(packed[m.slot][0], logits_KV.detach(), atol=1e-4, rtol=1e-5)
        own = Stack(model, 1)
        own.load(0, {name: p.grad for name, p in model.named_parameters()})
        for gradient, expected in zip(packed[m.slot][1:], own.weights.values(), strict=True):
            largest = float(expected.abs().max())
            torch.testing.assert_close(gradient, expected[0], atol=5e-5 * largest, rtol=0)


def test_weights_come_back_as_they_were_put_in(world):
    models, stack = world
    for slot, model in enumerate(models):
        named = stack.named(slot)
        assert named.keys() == dict(model.named_parameters()).keys()
        assert all(torch.equal(p, named[name]) for name, p in model.named_parameters())


@pytest.mark.parametrize("seed", range(6))
def test_bits_do_not_depend_on_mates_their_number_or_their_nans(world, seed):
    _, stack = world
    draw = random.Random(seed)
    members = [member(slot, 100 * seed + slot) for slot in range(WIDTH)]
    slopes = slopes_of(members)
    alone = {m.slot: bits(stack, [m], slopes)[m.slot] for m in members}
    mates = sorted(draw.sample(range(WIDTH), draw.randrange(2, WIDTH + 1)))
    ill = draw.choice(mates)
    held = {name: w[ill].clone() for name, w in stack.weights.items()}
    for w in stack.weights.values():
        w[ill] = torch.nan
    together = bits(stack, [members[slot] for slot in mates], slopes)
    for name, w in stack.weights.items():
        w[ill] = held[name]
    for slot in mates:
        if slot == ill:
            assert all(torch.isnan(t).any() for t in together[slot][:1])
        else:
            assert all(torch.equal(a, b) for a, b in zip(alone[slot], together[slot], strict=True))


def test_a_model_of_another_family_is_refused_with_the_reason(tmp_path):
    other = AutoModelForCausalLM.from_pretrained(save_as_mistral(tmp_path / "mistral"))
    with pytest.raises(NotPackable, match="model_type='mistral'"):
        Stack(other, 2)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hidden_act": "quick_gelu"}, "hidden_act='quick_gelu'"),
        ({"hidden_size": 32, "num_attention_heads": 8}, "head_dim=4: must be a multiple of 8"),
        (
            {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}},
            "rope_type='dynamic'",
        ),
    ],
)
def test_a_model_that_packs_do_not_compute_is_refused_with_the_reason(monkeypatch, changes, reason):
    monkeypatch.setitem(VARIANTS, "odd", ("tiny-64-gpt-neox", changes))
    with pytest.raises(NotPackable, match=reason):
        Stack(model_of("odd"), 2)


def test_masks_of_long_rows_are_not_kept():
    short, long = (causal_mask(length, 2, torch.device("cpu")) for length in (8, LONGEST_MASK_KEPT + 8))
    assert causal_mask(8, 2, torch.device("cpu")) is short
    held = weakref.ref(long)
    del long
    assert held() is None
