"""Packs of low-rank additions: each member is the run by itself, whoever else adds to the same weights."""

from __future__ import annotations

import copy
import dataclasses
import random

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from sweeps.spec import ModelSpec, RunSpec, SpecError
from tests.trainers.packs.test_forward import VOCABULARY, bits, member, model_of, slopes_of
from tests.trainers.packs.test_trainer import packed, require_ten_steps_alike, told
from tests.trainers.worlds import tiny_spec
from trainers.model.adapter import DOWN, UP, add_adapter
from trainers.packs.adapters import AdapterStack, targets_of
from trainers.protocol import RunContext

ADAPTERS = [
    {"adapter_rank": 4, "adapter_alpha": 8.0},
    {"adapter_rank": 8, "adapter_targets": ("q_proj", "v_proj")},
    {"adapter_rank": 3, "adapter_targets": ("gate_proj", "down_proj")},
    {"adapter_rank": 8, "adapter_alpha": 4.0, "adapter_targets": ("k_proj", "up_proj", "o_proj")},
]
"""Of one tile of ranks."""

NEOX_ADAPTERS = [
    {"adapter_rank": 4, "adapter_alpha": 8.0},
    {"adapter_rank": 8, "adapter_targets": ("query_key_value",)},
    {"adapter_rank": 3, "adapter_targets": ("dense_h_to_4h", "dense_4h_to_h")},
    {"adapter_rank": 8, "adapter_alpha": 4.0, "adapter_targets": ("dense", "query_key_value")},
]


def adapters_of(base: str) -> list[dict]:
    return NEOX_ADAPTERS if base == "tiny-64-gpt-neox" else ADAPTERS


def model_spec(base: str, number: int) -> ModelSpec:
    return dataclasses.replace(tiny_spec(base).model, adapter="lora", **adapters_of(base)[number])


def stack_of(model: torch.nn.Module, numbers: list[int], base: str = "tiny-64") -> AdapterStack:
    """Members whose additions are all random numbers of their own."""
    specs = [model_spec(base, number) for number in numbers]
    union = {target for spec in specs for target in targets_of(spec)}
    stack = AdapterStack(model, len(numbers), rank=8, targets=union)
    for slot, number in enumerate(numbers):
        stack.start(slot, dataclasses.replace(tiny_spec("tiny-64", seed=number), model=specs[slot]))
        rank, noise = specs[slot].adapter_rank, torch.Generator().manual_seed(number)
        for name in stack.trained_by(slot):
            own = stack.trained[name][slot]
            part = own[:rank] if name.endswith(DOWN.replace(".", "/")) else own[:, :rank]
            part.copy_(0.2 * torch.randn(part.shape, generator=noise))
    return stack


@pytest.mark.parametrize("base", ["tiny-64", "tiny-64-llama", "tiny-64-gemma", "tiny-64-gpt-neox"])
def test_logits_and_gradients_are_those_of_peft_one_by_one(base):
    plain = model_of(base)
    stack = stack_of(plain, list(range(len(ADAPTERS))), base)
    members = [member(slot, slot) for slot in range(len(ADAPTERS))]
    slopes = slopes_of(members)
    logits = {slot: found[0] for slot, found in bits(stack, members, slopes).items()}
    for m in members:
        model = copy.deepcopy(plain)
        add_adapter(model, model_spec(base, m.slot))
        added = {name: own for name, own in stack.named(m.slot).items() if name.endswith((DOWN, UP))}
        left = model.load_state_dict(added, strict=False)
        assert not left.unexpected_keys
        rows = [model(input_ids=torch.tensor([row])).logits[0] for row in m.rows]
        logits_KV = torch.stack([rows[k][t] for k, t in m.wanted])
        logits_KV.backward(slopes[m.slot])
        torch.testing.assert_close(logits[m.slot], logits_KV.detach(), atol=1e-4, rtol=1e-5)
        trained = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
        assert trained.keys() == added.keys()
        for name, expected in trained.items():
            gradient = stack.gradients[name.replace(".", "/")][m.slot]
            own = gradient[: expected.shape[0], : expected.shape[1]]
            torch.testing.assert_close(own, expected, atol=2e-4 * float(expected.abs().max()), rtol=0)
            assert torch.count_nonzero(gradient) == torch.count_nonzero(own)


def test_what_a_member_does_not_add_to_has_no_gradient():
    stack = stack_of(model_of("tiny-64"), [0, 1])
    members = [member(slot, slot) for slot in range(2)]
    bits(stack, members, slopes_of(members))
    foreign = set(stack.gradients) - set(stack.trained_by(1))
    assert foreign
    assert not any(stack.gradients[name][1].any() for name in foreign)


@pytest.mark.parametrize("base", ["tiny-64", "tiny-64-gpt-neox"])
@pytest.mark.parametrize("seed", range(4))
def test_bits_do_not_depend_on_mates_their_targets_or_their_nans(base, seed):
    model, draw = model_of(base), random.Random(seed)
    numbers = [draw.randrange(len(ADAPTERS)) for _ in range(5)]
    together = stack_of(model, numbers, base)
    members = [member(slot, 100 * seed + slot) for slot in range(5)]
    slopes = slopes_of(members)
    ill = draw.randrange(5)
    for own in together.trained.values():
        own[ill] = torch.nan
    found = bits(together, members, slopes)
    for slot in set(range(5)) - {ill}:
        alone = stack_of(model, [numbers[slot]], base)
        single = dataclasses.replace(members[slot], slot=0)
        [expected_KV, *_] = bits(alone, [single], {0: slopes[slot]})[0]
        assert torch.equal(found[slot][0], expected_KV)
        for name in alone.trained_by(0):
            assert torch.equal(together.gradients[name][slot], alone.gradients[name][0])


def lora_spec(number: int, pack: int = 4, **groups) -> RunSpec:
    """One of many runs that a pack may hold: its adapter, rate, seed and horizon are its own."""
    draw = random.Random(number)
    changes = {
        "seed": draw.randrange(3),
        "steps": draw.choice([2, 3, 4]),
        "optim": {"lr": draw.choice([1e-3, 4e-3]), "grad_clip": draw.choice([0.0, 0.3])},
        "schedule": {"name": draw.choice(["constant", "cosine"])},
        "eval": {"steps": [0, 2], "limit": 20},
        "model": {"adapter": "lora", **draw.choice(ADAPTERS)},
        "engine": {"pack": pack},
    }
    return tiny_spec(**{**changes, **groups})


@pytest.mark.parametrize(
    ("base", "number"),
    [*(("tiny-64", k) for k in range(len(ADAPTERS))), ("tiny-64-gpt-neox", 0), ("tiny-64-gpt-neox", 2)],
)
def test_ten_packed_steps_agree_with_ten_unpacked_ones(trainer, base, number):
    model = dataclasses.asdict(model_spec(base, number))
    plain, pack = (
        trainer.run(
            lora_spec(number, width, steps=10, eval={"limit": 50}, model=model, optim={"lr": 2e-3}),
            RunContext(),
        )
        for width in (0, 8)
    )
    assert pack.layout["pack"] == pack.layout["pack_rank"] == 8
    assert "pack" not in plain.layout
    require_ten_steps_alike(pack, plain, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_a_runs_numbers_do_not_depend_on_its_mates(trainer, seed):
    chosen = random.Random(seed).sample(range(40), 6)
    alone = {number: told(trainer.run(lora_spec(number), RunContext())) for number in chosen}
    for width in (4, 6):
        order = random.Random(seed + width).sample(chosen, len(chosen))
        outcomes = packed(trainer, [lora_spec(number, width) for number in order])
        for number, outcome in zip(order, outcomes, strict=True):
            assert outcome.layout["pack"] == width
            assert told(outcome) == alone[number]


def test_runs_that_share_a_trunk_and_a_mate_that_diverges_change_nobody(trainer):
    specs = [lora_spec(5, steps=n, schedule={"name": "constant"}) for n in (2, 3, 4)]
    alone = [told(trainer.run(spec, RunContext())) for spec in specs]
    wild = lora_spec(5, optim={"lr": 1e30, "grad_clip": 0.0})
    *others, ill = packed(trainer, [*specs, wild])
    assert ill.outcome == "diverged"
    assert [told(outcome) for outcome in others] == alone


def test_ranks_of_other_tiles_are_in_other_packs(trainer):
    specs = [lora_spec(6, model={"adapter": "lora", "adapter_rank": rank}) for rank in (4, 12)]
    assert [outcome.layout["pack_rank"] for outcome in packed(trainer, specs)] == [8, 16]


def test_kept_weights_are_merged_and_beside_them_for_peft(trainer, tmp_path):
    spec = lora_spec(7, optim={"lr": 1e-2}, resources={"keep_checkpoints": "last"})
    found = {}
    for name, one in (("packed", spec), ("alone", dataclasses.replace(spec, engine=tiny_spec().engine))):
        trainer.run(one, RunContext(checkpoint_dir=tmp_path / name))
        folder = tmp_path / name / f"step-{spec.steps}"
        ids = torch.tensor([[3, 5, 7, 2]])
        whole = AutoModelForCausalLM.from_pretrained(folder)(input_ids=ids).logits
        added = PeftModel.from_pretrained(model_of("tiny-64"), folder / "adapter")(input_ids=ids).logits
        assert torch.allclose(whole, added, atol=1e-5)
        assert not torch.allclose(whole, model_of("tiny-64")(input_ids=ids).logits, atol=1e-3)
        assert whole.shape[-1] == VOCABULARY
        found[name] = whole
    assert torch.allclose(found["packed"], found["alone"], atol=1e-4)


def test_layers_that_packs_do_not_add_to_are_trained_by_themselves_or_refused(trainer):
    head = trainer.run(
        lora_spec(8, model={"adapter": "lora", "adapter_targets": ("q_proj", "lm_head")}), RunContext()
    )
    assert "pack" not in head.layout
    with pytest.raises(SpecError, match=r"model\.adapter_targets='qproj'"):
        trainer.run(lora_spec(8, model={"adapter": "lora", "adapter_targets": ("qproj",)}), RunContext())


def test_layers_of_another_family_are_refused_to_a_run_and_not_to_its_model(trainer):
    def spec(*targets: str) -> RunSpec:
        return lora_spec(8, base="tiny-32", model={"adapter": "lora", "adapter_targets": targets})

    for foreign in [("query_key_value",), ("dense", "q_proj"), ("query_key_value",)]:
        with pytest.raises(SpecError, match=rf"model\.adapter_targets='{foreign[0]}'"):
            trainer.run(spec(*foreign), RunContext())
        assert "pack" in trainer.run(spec("q_proj"), RunContext()).layout
