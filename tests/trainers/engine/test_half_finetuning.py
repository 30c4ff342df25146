"""Half fine-tuning."""

from __future__ import annotations

import pytest
import torch

from sweeps.spec.errors import SpecError
from tests.trainers.comparing import column, numbers
from tests.trainers.worlds import tiny_spec
from trainers.engine.half_finetuning import frozen_half
from trainers.model.base_model import load_weights
from trainers.protocol import RunContext

NAMES = [n for n, _ in load_weights(tiny_spec().model, precision="fp32", attention="sdpa").named_parameters()]


def of(names, *words):
    return {n for n in names if all(word in n for word in words)}


def test_each_layer_keeps_half_of_every_category_still():
    for seed in range(20):
        still = frozen_half(NAMES, seed, 0)
        for layer in ("layers.0.", "layers.1."):
            matrices = of(still, layer, "self_attn", "weight")
            assert len(matrices) == 2
            assert len(of(still, layer, "mlp")) in (1, 2)
            assert len(of(still, layer, "norm")) == 1
            biases = {n.removesuffix("bias") for n in of(still, layer, "self_attn", "bias")}
            assert biases <= {n.removesuffix("weight") for n in matrices}
        assert not of(still, "embed_tokens")


def test_rounds_and_seeds_draw_afresh_and_every_matrix_has_its_turn():
    rounds = [frozen_half(NAMES, 3, r) for r in range(30)]
    assert rounds[0] == frozen_half(NAMES, 3, 0)
    assert len(set(rounds)) > 20
    assert frozen_half(NAMES, 4, 0) != rounds[0]
    counts = {n: sum(n in still for still in rounds) for n in NAMES}
    assert all(5 <= counts[n] <= 25 for n in NAMES if "embed" not in n)
    assert [sum(len(of(s, "layers.0.mlp")) == k for s in rounds) > 5 for k in (1, 2)] == [True, True]


def test_other_architectures_have_the_same_categories():
    names = [f"gpt_neox.layers.0.{part}.weight" for part in ("attention.dense", "attention.query_key_value")]
    names += [f"gpt_neox.layers.0.{part}.weight" for part in ("mlp.dense_h_to_4h", "mlp.dense_4h_to_h")]
    names += [f"gpt_neox.layers.0.{part}.weight" for part in ("input_layernorm", "post_attention_layernorm")]
    still = frozen_half(names, 0, 0)
    assert [len(of(still, word)) for word in (".attention.", ".mlp.", "layernorm")] == [1, 1, 1]


ENGINES = [{}, {"zero_stage": 1}, {"zero_stage": 2}, {"zero_stage": 3}]
HALF_PRECISION = [{"zero_stage": 2, "precision": "bf16"}, {"zero_stage": 3, "precision": "bf16"}]


def moved_by(trainer, spec):
    """Which weights a run had changed by its last heartbeat, by name."""
    before = trainer.engines.acquire(spec).full_weights()
    moved = {}

    def look(_):
        weights = trainer.engines.latest.full_weights()
        moved.update({n: not torch.equal(before[n], weights[n]) for n in before})

    trainer.run(spec, RunContext(heartbeat=look))
    return moved


@pytest.mark.parametrize("engine", ENGINES + HALF_PRECISION)
def test_what_keeps_still_keeps_its_bits_and_the_rest_moves(trainer, engine):
    spec = tiny_spec(
        steps=2, optim={"half_every_steps": 2, "weight_decay": 0.1}, engine=engine, eval={"path": None}
    )
    moved = moved_by(trainer, spec)
    still, frozen = {n for n, did in moved.items() if not did}, frozen_half(NAMES, spec.seed, 0)
    if "precision" in engine:  # a step may be too small for bf16
        assert frozen <= still < set(NAMES)
    else:
        assert still == frozen


@pytest.mark.parametrize("engine", ENGINES[1:])
def test_zero_stages_agree_and_a_hot_engine_gives_the_bits_of_a_cold_one(trainer, engine):
    half = {"steps": 5, "optim": {"half_every_steps": 2}, "eval": {"path": None}}
    plain = trainer.run(tiny_spec(**half), RunContext()).to_json()
    spec = tiny_spec(**half, engine=engine)
    trainer.engines.discard(spec)
    cold = trainer.run(spec, RunContext()).to_json()
    trainer.run(tiny_spec(**half, seed=9, engine=engine), RunContext())
    assert numbers(trainer.run(spec, RunContext()).to_json()) == numbers(cold)
    for name in ("loss", "grad_norm"):
        assert column(cold, name) == pytest.approx(column(plain, name), abs=5e-6)


@pytest.mark.slow
def test_two_ranks_agree_with_one(trainer, two_ranks):
    half = {"steps": 4, "optim": {"half_every_steps": 2}, "eval": {"path": None}}
    alone = trainer.run(tiny_spec(**half), RunContext()).to_json()
    stages = [tiny_spec(**half, engine=e, resources={"world_size": 2}) for e in ENGINES]
    for result in two_ranks.run(stages):
        assert column(result, "loss") == pytest.approx(column(alone, "loss"), abs=2e-6)
        assert result["rollouts"] == alone["rollouts"]


def test_rounds_shared_and_resumed_give_the_bits_of_a_run_alone(trainer, tmp_path):
    specs = [
        tiny_spec(steps=s, optim={"half_every_steps": 1, "lr": lr}, eval={"limit": 12})
        for s in (2, 4)
        for lr in (1e-4, 2e-4)
    ]
    together = dict(trainer.run_group(specs, [RunContext() for _ in specs]))
    for index, spec in enumerate(specs):
        assert numbers(together[index].to_json()) == numbers(trainer.run(spec, RunContext()).to_json())
    whole = trainer.run(tiny_spec(steps=2, eval={"limit": 12}), RunContext())
    assert [r["loss"] for r in whole.steps[1:]] != [r["loss"] for r in together[1].steps[1:]]


def test_rounds_that_cannot_be_are_refused():
    with pytest.raises(SpecError, match="half_every_steps"):
        tiny_spec(optim={"half_every_steps": -1})
