from __future__ import annotations

import pytest

from tests.trainers.comparing import column
from tests.trainers.worlds import tiny_spec
from trainers.protocol import RunContext
from trainers.step.forward import SHARED_PROMPT_MIN_TOKENS, sharing_pays

LONG = "11+22=;03;033 " * 6 + "47+38="


@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
@pytest.mark.parametrize("micro_batch", [0, 2])
def test_a_prompt_forwarded_once_trains_as_one_forwarded_per_row(
    trainer, monkeypatch, zero_stage, micro_batch
):
    spec = tiny_spec(
        prompt=LONG,
        steps=4,
        engine={"zero_stage": zero_stage, "micro_batch": micro_batch},
        eval={"path": None},
    )
    assert sharing_pays(spec, [[0] * len(LONG)])
    shared = trainer.run(spec, RunContext()).to_json()
    monkeypatch.setattr("trainers.step.forward.SHARED_PROMPT_MIN_TOKENS", 10**6)
    apart = trainer.run(spec, RunContext()).to_json()
    assert shared["rollouts"] == apart["rollouts"]
    assert column(shared, "loss") == pytest.approx(column(apart, "loss"), abs=2e-6)
    assert column(shared, "grad_norm") == pytest.approx(column(apart, "grad_norm"), rel=1e-3)


def test_short_or_several_prompts_and_checkpointed_activations_are_not_shared():
    spec = tiny_spec()
    long, short = [0] * SHARED_PROMPT_MIN_TOKENS, [0] * (SHARED_PROMPT_MIN_TOKENS - 1)
    assert not sharing_pays(spec, [short])
    assert not sharing_pays(spec, [long, long])
    assert not sharing_pays(tiny_spec(engine={"gradient_checkpointing": True}), [long])
