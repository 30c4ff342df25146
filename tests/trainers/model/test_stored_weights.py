"""Weights that are read again instead of kept give the bits of kept ones."""

from __future__ import annotations

import torch

from tests.trainers.comparing import numbers
from tests.trainers.presets import preset_dict
from tests.trainers.worlds import tiny_spec
from trainers.model import stored_weights as stored_weights_module
from trainers.model.base_model import load_weights, stored_weights
from trainers.policy_trainer import PolicyTrainer
from trainers.protocol import RunContext, WorkerContext


def spec(seed: int):
    """Two steps of an objective that compares with the untrained model."""
    return tiny_spec(
        objective=preset_dict("self_certainty"),
        sampling={"temperature": 1.3},
        seed=seed,
        steps=2,
        eval={"limit": 10},
    )


def test_an_engine_over_large_weights_keeps_no_copy_of_them_and_changes_no_bit(trainer, monkeypatch):
    kept = [numbers(trainer.run(spec(seed), RunContext()).to_json()) for seed in (0, 1)]
    monkeypatch.setattr(stored_weights_module, "KEPT_MIB", 0)
    again = PolicyTrainer(WorkerContext())
    read = [numbers(again.run(spec(seed), RunContext()).to_json()) for seed in (0, 1)]
    assert again.engines.latest._built.weights == ()
    again.close()
    assert read == kept


def test_weights_that_are_not_those_of_the_folder_or_are_small_are_kept(monkeypatch):
    model_spec = tiny_spec().model
    stored = stored_weights(model_spec)
    named = dict(load_weights(model_spec, precision="fp32", attention="sdpa").named_parameters())
    assert not stored.are(named)
    monkeypatch.setattr(stored_weights_module, "KEPT_MIB", 0)
    assert stored.are(named)
    for name, held in zip(named, stored.read(named), strict=True):
        assert torch.equal(held, named[name])
    with torch.no_grad():
        named[name][0] += 1
    assert not stored.are(named)
    assert not stored.are({"another": named[name]})
