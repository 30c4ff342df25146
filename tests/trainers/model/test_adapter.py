"""Low-rank adapters on the trainer's one path."""

from __future__ import annotations

from importlib.metadata import version

import pytest
import torch
from transformers import AutoModelForCausalLM

from sweeps.spec.errors import SpecError
from tests.trainers.comparing import numbers
from tests.trainers.worlds import tiny_spec
from trainers.engine.gang import Gang
from trainers.engine.pool import EnginePool
from trainers.model.adapter import CHECKED_VERSION, adapter_shapes, fresh_adapter, merged
from trainers.model.base_model import load_weights
from trainers.policy_trainer import PolicyTrainer
from trainers.protocol import RunContext, WorkerContext

LORA = {"adapter": "lora", "adapter_rank": 4, "adapter_alpha": 8.0}


def lora_spec(seed: int = 0, **groups):
    model = tiny_spec().model
    changed = {"name": model.name, "path": model.path, **LORA, **groups.pop("model", {})}
    return tiny_spec(seed=seed, model=changed, **{"steps": 3, "eval": {"limit": 12}, **groups})


def load(spec):
    return load_weights(spec.model, precision="fp32", attention="sdpa")


def test_a_fresh_adapter_changes_nothing_and_trains_itself_alone():
    ids = torch.tensor([[3, 5, 7, 2]])
    plain, adapted = load(tiny_spec()), load(lora_spec())
    assert torch.equal(plain(input_ids=ids).logits, adapted(input_ids=ids).logits)
    trained = {n for n, p in adapted.named_parameters() if p.requires_grad}
    assert trained == set(adapter_shapes(adapted))
    assert len(trained) == 2 * 7 * 2  # A and B of seven matrices in two layers


def test_merging_adds_the_scaled_product_under_the_base_models_names():
    spec = lora_spec(model={"adapter_targets": ["q_proj"]})
    adapted, plain = load(spec), load(tiny_spec())
    start = fresh_adapter(adapter_shapes(adapted), seed=1)
    start = {n: t if "lora_A" in n else torch.randn_like(t) for n, t in start.items()}
    adapted.load_state_dict(start, strict=False)
    whole = merged(dict(adapted.named_parameters()), spec.model)
    assert whole.keys() == dict(plain.named_parameters()).keys()
    name = "model.layers.1.self_attn.q_proj"
    by_hand = plain.get_parameter(f"{name}.weight") + 8.0 / 4 * (
        start[f"{name}.lora_B.default.weight"] @ start[f"{name}.lora_A.default.weight"]
    )
    assert torch.allclose(whole[f"{name}.weight"], by_hand)
    plain.load_state_dict(whole, strict=False)  # the tied head is not a parameter of its own
    ids = torch.tensor([[3, 5, 7, 2]])
    assert torch.allclose(plain(input_ids=ids).logits, adapted(input_ids=ids).logits, atol=1e-5)


def test_the_beginning_is_the_seeds_own_and_within_pefts_bounds():
    shapes = adapter_shapes(load(lora_spec()))
    one, again, other = (fresh_adapter(shapes, seed) for seed in (1, 1, 2))
    for name, shape in shapes.items():
        assert torch.equal(one[name], again[name])
        if "lora_A" in name:
            assert not torch.equal(one[name], other[name])
            assert one[name].abs().max() <= shape[1] ** -0.5
        else:
            assert not one[name].any()


@pytest.mark.parametrize(
    "engine",
    [
        {},
        {"zero_stage": 1},
        {"zero_stage": 2, "precision": "bf16"},
        pytest.param({"zero_stage": 3}, marks=pytest.mark.slow),
    ],
)
def test_a_hot_engine_gives_the_bits_of_a_cold_one(trainer, engine):
    hot = [numbers(trainer.run(lora_spec(seed, engine=engine), RunContext()).to_json()) for seed in (5, 6, 5)]
    assert hot[0] == hot[2]
    assert hot[0] != hot[1]
    cold = PolicyTrainer(WorkerContext())
    assert numbers(cold.run(lora_spec(5, engine=engine), RunContext()).to_json()) == hot[0]
    cold.close()


def test_zero_stages_agree_and_gradient_checkpointing_changes_no_bit(trainer):
    losses = [
        [row["loss"] for row in trainer.run(lora_spec(engine={"zero_stage": z}), RunContext()).steps[1:]]
        for z in range(4)
    ]
    for other in losses[1:]:
        assert other == pytest.approx(losses[0], rel=1e-3)
    recomputed = trainer.run(lora_spec(engine={"gradient_checkpointing": True}), RunContext())
    assert [row["loss"] for row in recomputed.steps[1:]] == losses[0]


def test_base_weights_stay_and_the_base_model_is_judged_the_same(trainer):
    gang = Gang(WorkerContext())
    pool = EnginePool(gang)
    engine = pool.acquire(lora_spec())
    before = engine.full_weights()
    pool.close()
    spec = lora_spec(resources={"keep_checkpoints": "last"})
    result = trainer.run(spec, RunContext())
    engine = trainer.engines.acquire(spec)
    after = engine.full_weights()
    assert all(torch.equal(before[n], after[n]) for n in before if ".lora_" not in n)
    plain = trainer.run(tiny_spec(steps=1, eval={"limit": 12}), RunContext())
    for name in ("base_accuracy_greedy", "base_accuracy_sampled"):
        assert result.metrics[name] == plain.metrics[name]


def test_what_is_saved_is_a_plain_model_that_computes_the_same(trainer, tmp_path):
    spec = lora_spec(optim={"lr": 1e-2}, resources={"keep_checkpoints": "last"})
    trainer.run(spec, RunContext(checkpoint_dir=tmp_path))
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "step-3")
    assert saved.state_dict().keys() == load(tiny_spec()).state_dict().keys()
    ids = torch.tensor([[3, 5, 7, 2]])
    assert not torch.allclose(saved(input_ids=ids).logits, load(tiny_spec())(input_ids=ids).logits, atol=1e-3)


def test_a_divergence_from_the_base_model_is_measured_under_an_adapter(trainer):
    spec = lora_spec(objective={"kl_coef": 0.1}, optim={"lr": 1e-2})
    kl = [row["kl_nats"] for row in trainer.run(spec, RunContext()).steps if "kl_nats" in row]
    assert kl[0] == pytest.approx(0, abs=1e-6)
    assert kl[-1] > 1e-4


@pytest.mark.parametrize(
    ("groups", "says"),
    [
        ({"model": {"adapter": "lroa"}}, "choose one of none, lora"),
        ({"model": {"adapter_rank": 0}}, "adapter_rank=0"),
        ({"engine": {"decoder": "vllm"}}, "engine.decoder=cached"),
        ({"optim": {"half_every_steps": 1}}, "use one of them"),
    ],
)
def test_adapters_that_cannot_be_are_refused(groups, says):
    with pytest.raises(SpecError, match=says):
        lora_spec(**groups)


def test_targets_that_the_model_has_not_are_refused_with_those_it_has():
    with pytest.raises(SpecError, match=r"qproj.*q_proj"):
        load(lora_spec(model={"adapter_targets": ["qproj"]}))


def test_peft_still_names_its_matrices_and_the_layers_it_wraps_as_they_are_merged_by():
    installed = version("peft")
    assert installed == CHECKED_VERSION, (
        f"read trainers/model/adapter.py against peft {installed}, then name it there"
    )
    names = {n for n, _ in load(lora_spec(model={"adapter_targets": ["q_proj"]})).named_parameters()}
    layer = "model.layers.0.self_attn.q_proj"
    parts = ("base_layer.weight", "lora_A.default.weight", "lora_B.default.weight")
    assert {f"{layer}.{part}" for part in parts} <= names
