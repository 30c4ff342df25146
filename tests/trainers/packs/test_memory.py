"""Beside the model, a pack of adapters holds what its members keep between steps, and one forward."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from tests.trainers.packs.test_adapters import lora_spec, stack_of
from tests.trainers.packs.test_forward import member, model_of
from tests.trainers.packs.test_trainer import packed, spec_of, told
from trainers.packs import gradients
from trainers.packs.forward import Trace, forward
from trainers.packs.tokens import num_tokens, tokens_of


def stack_held(trainer):
    [engine] = trainer.packs.warm.pool._engines.values()
    return engine.stack


def tensors(of: Any) -> Iterator[torch.Tensor]:
    if isinstance(of, torch.Tensor):
        yield of
    elif isinstance(of, list):
        for own in of:
            yield from tensors(own)
    elif hasattr(of, "__dataclass_fields__"):
        yield from tensors(list(vars(of).values()))


def test_the_trial_of_members_leaves_no_gradients(trainer):
    trainer.packs.close()
    assert trainer.packs.takes(lora_spec(0), among=4)
    assert stack_held(trainer).num_held == 0


def test_gradients_are_held_for_one_forward_and_not_for_every_slot(trainer, monkeypatch):
    for specs in ([lora_spec(n) for n in range(4)], [spec_of(n) for n in range(4)]):
        trainer.packs.close()
        together = [told(outcome) for outcome in packed(trainer, specs)]
        trainer.packs.close()
        with monkeypatch.context() as patch:
            patch.setattr(gradients, "TRACE_BYTES", 0)
            assert [told(outcome) for outcome in packed(trainer, specs)] == together
        stack = stack_held(trainer)
        assert stack.num_held == 1
        assert stack.width == 4
        assert {len(own) for own in stack.gradients.values()} == {1}


def test_a_trace_keeps_nothing_for_matrices_that_nobody_adds_to():
    stack = stack_of(model_of("tiny-64"), [0, 1])
    members, trace = [member(slot, slot) for slot in range(2)], Trace()
    tokens = tokens_of(members, 0)
    forward(stack.weights, stack.additions, tokens, stack.rotation, stack.shape, trace)
    added = {name.rpartition("_")[0] for name in stack.additions}
    for layer in trace.layers:
        assert (layer.down_of is None, layer.fed.active is None) == ("down" not in added,) * 2
        assert (layer.feed_of is None) == (not added & {"gate", "up"})
        assert (layer.heads is None) == ("out" not in added)
        assert layer.attention_norm.weight.shape[0] == 1
    held = sum(own.untyped_storage().nbytes() for own in tensors([trace.layers]) if len(own) > 1)
    counted = [stack.shape.trace_bytes(num_tokens(m.rows), 0) for m in members]
    assert held <= sum(counted)
