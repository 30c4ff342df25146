"""The trainer on a GPU: the same numbers as on the CPU within rounding, and as exact between its own runs."""

from __future__ import annotations

import pytest

from tests.gpu.bodies import facts, forced_steps, free_steps, run_all, run_out_of_memory, run_packed
from tests.gpu.devices import also_on_cpu, call_on, on_gpu
from tests.trainers.comparing import column, numbers
from tests.trainers.worlds import tiny_spec

FIRST_LOSS_TOLERANCE = 1e-5
"""Same weights, same tokens, fp32 without TF32: only the order of sums differs, relative 1e-7 a sum."""

LATER_LOSS_TOLERANCE = 1e-3
"""After steps the differences have passed through AdamW, which divides small gradients by smaller roots."""

SHORT = {"steps": 3, "eval": {"path": None}}


@pytest.fixture(scope="module")
def on_cpu():
    """Three steps on the CPU: the rollouts of each and what it saw."""
    return call_on("cpu", [(free_steps, (tiny_spec(**SHORT),))])[0]


@pytest.mark.parametrize(("device", "backend"), [also_on_cpu("gloo"), on_gpu("nccl")])
def test_a_gang_of_one_joins_by_the_devices_own_backend_without_a_port(device, backend):
    assert call_on(device, [(facts, ())]) == [{"backend": backend, "device": device, "sum": 3.0}]


@pytest.mark.parametrize(
    ("device", "zero_stage"), [also_on_cpu(2), on_gpu(0), on_gpu(1), on_gpu(2), on_gpu(3)]
)
def test_on_the_same_rollouts_losses_equal_those_of_the_cpu_within_tolerance(device, zero_stage, on_cpu):
    rollouts, expected = on_cpu
    spec = tiny_spec(**SHORT, engine={"zero_stage": zero_stage})
    [found] = call_on(device, [(forced_steps, (spec, rollouts))])
    assert found[0]["loss"] == pytest.approx(expected[0]["loss"], abs=FIRST_LOSS_TOLERANCE)
    assert found[0]["entropy_nats"] == pytest.approx(expected[0]["entropy_nats"], abs=FIRST_LOSS_TOLERANCE)
    assert found[0]["grad_norm"] == pytest.approx(expected[0]["grad_norm"], rel=1e-4)
    for ours, theirs in zip(found[1:], expected[1:], strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=LATER_LOSS_TOLERANCE)


@pytest.mark.parametrize(
    ("device", "precision", "decoder"),
    [
        also_on_cpu("bf16", "cached"),
        on_gpu("fp32", "tree"),
        on_gpu("fp32", "cached"),
        on_gpu("bf16", "cached"),
    ],
)
def test_a_hot_worker_repeats_its_first_run_bit_for_bit(device, precision, decoder):
    engine = {"precision": precision, "zero_stage": 2, "decoder": decoder}
    spec = tiny_spec(engine=engine)
    other = tiny_spec(seed=9, optim={"lr": 5e-3}, engine=engine, **SHORT)
    [[first, _, again]] = call_on(device, [(run_all, ([spec, other, spec],))])
    assert numbers(again) == numbers(first)
    assert first["outcome"] == "done"
    assert column(first, "loss")[-1] < column(first, "loss")[0]


@pytest.mark.parametrize(("device", "zero_stage"), [on_gpu(2), on_gpu(3)])
def test_with_the_optimizer_in_host_memory_bf16_trains_as_without_and_resets_bit_for_bit(device, zero_stage):
    engine = {"precision": "bf16", "zero_stage": zero_stage}
    spec = tiny_spec(engine={**engine, "offload": True}, eval={"path": None})
    other = tiny_spec(seed=9, optim={"lr": 5e-3}, engine={**engine, "offload": True}, **SHORT)
    [[first, _, again], [kept]] = call_on(
        device,
        [(run_all, ([spec, other, spec],)), (run_all, ([tiny_spec(engine=engine, eval={"path": None})],))],
    )
    assert numbers(again) == numbers(first)
    assert column(first, "loss")[0] == pytest.approx(column(kept, "loss")[0], abs=1e-6)
    assert column(first, "loss")[-1] < column(first, "loss")[0]


@pytest.mark.parametrize(
    ("device", "model", "decoder"),
    [
        also_on_cpu("lora", "cached"),
        on_gpu("lora", "tree"),
        on_gpu("lora", "cached"),
        on_gpu("none", "tree"),
        on_gpu("none", "cached"),
    ],
)
def test_a_packed_run_has_the_bits_that_it_has_alone_and_is_near_the_unpacked_one(device, model, decoder):
    lora = {"adapter": "lora", "adapter_rank": 4, "adapter_alpha": 16} if model == "lora" else {}

    def specs(pack: int) -> list:
        engine = {"pack": pack, "decoder": decoder}
        return [tiny_spec(seed=s, model=lora, engine=engine, optim={"lr": 1e-4}, **SHORT) for s in range(3)]

    together, alone, unpacked = call_on(
        device, [(run_packed, (specs(3), 3)), (run_packed, (specs(3), 1)), (run_all, (specs(0),))]
    )
    for pack, own, plain in zip(together, alone, unpacked, strict=True):
        assert pack["layout"]["pack"] == own["layout"]["pack"] == 3
        assert numbers(pack) == numbers(own)
        assert column(pack, "loss")[0] == pytest.approx(column(plain, "loss")[0], abs=FIRST_LOSS_TOLERANCE)
        assert column(pack, "loss") == pytest.approx(column(plain, "loss"), abs=LATER_LOSS_TOLERANCE)


@pytest.mark.parametrize("device", [also_on_cpu(), on_gpu()])
def test_two_processes_on_one_device_each_get_what_one_alone_gets(device):
    spec, other = tiny_spec(eval={"path": None}), tiny_spec(seed=1, eval={"path": None})
    [[alone, alone_too]] = call_on(device, [(run_all, ([spec, other],))])
    [[one], [two]] = call_on(device, [(run_all, ([spec],)), (run_all, ([other],))])
    assert numbers(one) == numbers(alone)
    assert numbers(two) == numbers(alone_too)


@pytest.mark.parametrize("device", [on_gpu()])
def test_a_real_allocation_beyond_memory_is_of_the_memory_class_and_leaves_the_worker_fit(device):
    [found] = call_on(device, [(run_out_of_memory, (tiny_spec(**SHORT),))])
    assert found["class"] == "oom", found["message"]
    assert found["outcome"] == "done"
