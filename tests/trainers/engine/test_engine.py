"""An engine's step is that of torch: its norm, its clipping, and nothing left behind."""

from __future__ import annotations

import math

import pytest
import torch

from tests.trainers.worlds import tiny_spec


@pytest.mark.parametrize(
    ("limit", "scale"), [(0.0, 1.0), (0.5, 1.0), (0.5, 1e-4), (0.5, math.inf), (0.0, math.inf)]
)
def test_gradients_are_clipped_to_the_bits_of_torch(trainer, limit, scale):
    plain_descent = {"name": "sgd", "momentum": 0.0, "weight_decay": 0.0}
    spec = tiny_spec(optim={**plain_descent, "lr": 1.0, "grad_clip": limit})
    engine = trainer.engines.acquire(spec)
    noise = torch.Generator().manual_seed(0)
    gradients = [torch.randn(p.shape, generator=noise) * 0.1 for p in engine.module.parameters()]
    gradients = [gradient * scale for gradient in gradients]
    engine.set_gradients(gradients)
    plain = [torch.nn.Parameter(p.detach().clone()) for p in engine.module.parameters()]
    for p, gradient in zip(plain, gradients, strict=True):
        p.grad = gradient.clone()
    norm = torch.nn.utils.clip_grad_norm_(plain, limit or math.inf)
    torch.optim.SGD(plain, lr=1.0).step()
    assert engine.step(1.0) == float(norm)
    for ours, theirs in zip(engine.module.parameters(), plain, strict=True):
        assert torch.equal(ours.nan_to_num(7.0), theirs.nan_to_num(7.0))
        assert ours.grad is None
