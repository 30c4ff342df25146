"""What other runs and libraries change in the process is put back before a run."""

from __future__ import annotations

import logging

import pytest
import torch
from deepspeed.accelerator import get_accelerator
from deepspeed.runtime.zero.stage3 import DeepSpeedZeroOptimizer_Stage3

from tests.benchmarks.history_pairs import LAYOUTS, digests_after, history_pairs, in_fresh_process
from tests.trainers.comparing import numbers
from tests.trainers.worlds import tiny_spec
from trainers.engine.engine import Engine
from trainers.engine.process_state import SWITCHES, ProcessState, unusual
from trainers.protocol import RunContext

OTHER_VALUES = {
    "default_dtype": torch.float64,
    "default_device": torch.device("meta"),
    "gradients": False,
    "threads": 2,
    "deterministic": (True, True),
    "flush_denormal": True,
    "matmul_precision": ("none", "tf32", "bf16"),
}
"""Where another value is not just the opposite."""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_run_has_the_same_bits_after_any_other_layout():
    figures = history_pairs()
    assert figures["history_pairs_differing"] == []
    assert figures["history_pairs_equal"] == figures["history_pairs"] == len(LAYOUTS) * (len(LAYOUTS) - 1)


@pytest.mark.slow
def test_a_run_in_bf16_has_the_bits_of_a_fresh_process_after_one_of_zero_3(trainer):
    first, then = "zero3-bf16-none", "zero1-bf16-none"
    assert digests_after(trainer, first, [then])[then] == in_fresh_process(then, [])[then]


@pytest.mark.parametrize("name", LAYOUTS)
def test_no_layout_leaves_anything_changed_behind(trainer, name):
    before = ProcessState()
    trainer.run(tiny_spec(steps=1, eval={"path": None}, **LAYOUTS[name]), RunContext())
    assert before.restore() == []


@pytest.fixture(scope="module")
def undisturbed(trainer):
    return numbers(trainer.run(disturbed_spec(), RunContext()).to_json())


def disturbed_spec(**groups):
    engine = {"zero_stage": 1, "precision": "bf16"} | groups.pop("engine", {})
    return tiny_spec(**{"steps": 1, "eval": {"steps": [1], "limit": 4}, "engine": engine} | groups)


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_that_something_set_is_back_before_the_next_run(trainer, undisturbed, name, caplog):
    switch = SWITCHES[name]
    before = switch.read()
    other = OTHER_VALUES.get(name, not before)
    assert other != before
    switch.write(other)
    try:
        assert switch.read() == other
        with caplog.at_level(logging.WARNING):
            assert numbers(trainer.run(disturbed_spec(), RunContext()).to_json()) == undisturbed
        assert switch.read() == before
        assert name in caplog.text
    finally:
        switch.write(before)


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (torch.nn.functional, "linear"),
        (torch.nn.functional, "scaled_dot_product_attention"),
        (torch, "matmul"),
        (torch.Tensor, "backward"),
        (torch.nn.Module, "apply"),
        (torch.nn.Linear, "forward"),
    ],
)
def test_a_function_that_something_replaced_is_back_before_the_next_run(
    trainer, undisturbed, monkeypatch, owner, name
):
    original = vars(owner)[name]

    def wrong(*args, **kwargs):
        raise AssertionError(f"{name} is still another")

    monkeypatch.setattr(owner, name, wrong)
    assert numbers(trainer.run(disturbed_spec(), RunContext()).to_json()) == undisturbed
    assert vars(owner)[name] is original


def test_a_method_that_hides_an_inherited_one_is_removed():
    state = ProcessState()
    torch.nn.Linear.apply = lambda module, function: module  # type: ignore[method-assign]
    assert state.restore() == ["torch.nn.Linear.apply"]
    assert torch.nn.Linear.apply is torch.nn.Module.apply


def test_what_torch_itself_replaces_stays():
    import torch._dynamo  # wraps it

    wrapped = torch.manual_seed
    state = ProcessState()
    state._functions = [("torch", torch, {"manual_seed": wrapped.__wrapped__})]
    assert state.restore() == []
    assert torch.manual_seed is wrapped


def test_noise_drawn_from_torch_is_the_same_before_every_run(trainer):
    spec = tiny_spec(steps=1, eval={"path": None})
    trainer.engines.acquire(spec)
    first = torch.rand(3)
    torch.manual_seed(5)
    trainer.engines.acquire(spec)
    assert torch.equal(torch.rand(3), first)


def test_a_result_says_what_is_unusual_of_its_process(trainer, monkeypatch):
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    result = trainer.run(tiny_spec(steps=1, eval={"path": None}), RunContext())
    assert result.layout["process"]["MKL_CBWR"] == "COMPATIBLE"
    torch.set_float32_matmul_precision("medium")
    try:
        assert "bf16" in unusual()["matmul_precision"]
    finally:
        torch.set_float32_matmul_precision("highest")
        SWITCHES["matmul_precision"].write(("none", "none", "none"))


class Interrupted(Exception):
    """Strikes in the middle of something."""


def raise_interrupted(*_args: object, **_kwargs: object) -> None:
    raise Interrupted


def diverge(trainer, monkeypatch):
    result = trainer.run(disturbed_spec(steps=2, optim={"lr": 1e30}), RunContext())
    assert result.outcome == "diverged"


def die_between_steps(trainer, monkeypatch):
    with pytest.raises(Interrupted):
        trainer.run(disturbed_spec(), RunContext(heartbeat=raise_interrupted))


def die_in_a_backward(trainer, monkeypatch):
    monkeypatch.setattr(Engine, "step", raise_interrupted)
    with pytest.raises(Interrupted):
        trainer.run(disturbed_spec(), RunContext())


def die_while_an_engine_of_zero_3_is_built(trainer, monkeypatch):
    monkeypatch.setattr(DeepSpeedZeroOptimizer_Stage3, "__init__", raise_interrupted)
    with pytest.raises(Interrupted):
        trainer.run(disturbed_spec(engine={"zero_stage": 3}, optim={"eps": 1e-7}), RunContext())


def die_while_the_reference_has_the_module(trainer, monkeypatch):
    monkeypatch.setattr("trainers.step.reference.log_probs", raise_interrupted)
    objective = {"kl_coef": 0.1}
    with pytest.raises(Interrupted):
        trainer.run(disturbed_spec(objective=objective), RunContext())


def train_an_adapter(trainer, monkeypatch):
    trainer.run(disturbed_spec(model={"adapter": "lora"}), RunContext())


def train_halves(trainer, monkeypatch):
    trainer.run(disturbed_spec(optim={"half_every_steps": 1}), RunContext())


def recompute_activations(trainer, monkeypatch):
    trainer.run(disturbed_spec(engine={"gradient_checkpointing": True}), RunContext())


def overflow_in_fp16(trainer, monkeypatch):
    if not get_accelerator().is_fp16_supported():
        pytest.skip("DeepSpeed finds no fp16 arithmetic on this processor")
    trainer.run(disturbed_spec(engine={"precision": "fp16"}), RunContext())


def leave_in_the_middle(trainer, monkeypatch):
    specs = [disturbed_spec(steps=steps) for steps in (1, 3)]
    outcomes = trainer.run_group(specs, [RunContext()] * 2)
    next(outcomes)
    outcomes.close()


def leave_autocast_and_hooks_on(trainer, monkeypatch):
    torch.autocast("cpu", dtype=torch.bfloat16).__enter__()
    torch.nn.Module.__call__ = raise_interrupted  # type: ignore[method-assign]


@pytest.mark.parametrize(
    "disturb",
    [
        diverge,
        die_between_steps,
        die_in_a_backward,
        die_while_an_engine_of_zero_3_is_built,
        die_while_the_reference_has_the_module,
        train_an_adapter,
        train_halves,
        recompute_activations,
        overflow_in_fp16,
        leave_in_the_middle,
        leave_autocast_and_hooks_on,
    ],
)
def test_a_run_has_its_bits_whatever_happened_before(trainer, undisturbed, disturb):
    with pytest.MonkeyPatch.context() as patch:
        disturb(trainer, patch)
    assert numbers(trainer.run(disturbed_spec(), RunContext()).to_json()) == undisturbed
