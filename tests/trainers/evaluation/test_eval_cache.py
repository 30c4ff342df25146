"""What a worker remembers of benchmarks and base models, and for whom."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch

from tests.trainers.worlds import tiny_spec
from trainers.engine.gang import Gang
from trainers.evaluation.eval_cache import EvalCache
from trainers.model.base_model import load_base
from trainers.protocol import WorkerContext


@pytest.fixture
def cache():
    cache = EvalCache(lru_cache(load_base), Gang(WorkerContext()))
    yield cache
    cache.close()


def test_a_benchmark_is_read_once_for_a_model_whatever_is_added_to_it_and_whenever_it_is_judged(cache):
    specs = [
        tiny_spec(
            model={"adapter": "lora", "adapter_rank": 4, "adapter_alpha": float(alpha)},
            eval={"steps": [0, alpha], "limit": 3},
        )
        for alpha in range(1, 11)
    ]
    assert len({id(cache.benchmark(spec)) for spec in specs}) == 1


def test_a_base_verdict_of_a_pack_is_not_taken_for_one_of_the_models_own_module(cache, monkeypatch):
    spec = tiny_spec(eval={"steps": [0], "limit": 3}, engine={"pack": 4})
    by_module: list[int] = []

    def judged(benchmark, module, settings, **others):
        by_module.append(others["step"])
        return ["of the module"] * len(settings)

    assert set(cache.base_by(spec, lambda benchmark, settings, seed: ["of a pack"])) == {"of a pack"}
    monkeypatch.setattr(type(cache.benchmark(spec)), "evaluate", judged)
    assert set(cache.base(spec, torch.nn.Linear(1, 1))) == {"of the module"}
    assert set(by_module) == {0}
