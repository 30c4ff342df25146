"""DeepSpeed still has inside what an engine is reset by."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import deepspeed
import pytest
import torch
from deepspeed.runtime.zero.parameter_offload import FWD_MODULE_STACK

from tests.trainers.worlds import tiny_spec
from trainers.deepspeed_internals import (
    CHECKED_VERSION,
    COUNTERS,
    Internals,
    gathered,
    is_sharded,
    shard_of,
)
from trainers.protocol import RunContext


@pytest.fixture(scope="module", params=[0, 1, 2, 3])
def inside(request, trainer):
    """An engine that has taken a step, and its inside."""
    trainer.run(tiny_spec(steps=1, eval={"path": None}, engine={"zero_stage": request.param}), RunContext())
    engine = trainer.engines.latest
    return request.param, engine, Internals(engine._ds, request.param)


def test_the_version_installed_is_the_one_that_was_read():
    installed = version("deepspeed")
    assert installed == CHECKED_VERSION, (
        f"read trainers/deepspeed_internals.py against DeepSpeed {installed}, then name it there"
    )


def test_masters_hold_each_trained_number_once(inside):
    stage, engine, internals = inside
    num = sum(p.ds_numel if stage == 3 else p.numel() for p in engine.module.parameters())
    assert sum(flat.numel() for flat in internals.masters()) == (num if stage else 0)
    if stage:
        [(parameters, flat)] = internals.partitions()
        assert flat is internals.masters()[0]
        assert {id(p) for p in parameters} == {id(p) for p in engine.module.parameters()}


def test_shards_and_gathered_parameters_are_those_of_stage_three(inside):
    stage, engine, internals = inside
    parameters = list(engine.module.parameters())
    assert all(is_sharded(p) is (stage == 3) for p in parameters)
    with gathered(parameters):
        whole = [p.detach().clone() for p in parameters]
    if stage == 3:
        for parameter, full in zip(parameters, whole, strict=True):
            assert torch.equal(shard_of(parameter)[: full.numel()], full.flatten())
        assert engine._ds.optimizer.persistent_parameters
    internals.gather_persistent()


def test_counters_count_and_start_again(inside):
    _, engine, internals = inside
    engine._ds.global_steps = 7
    assert all(isinstance(getattr(engine._ds, name), int) for name in COUNTERS)
    internals.reset_counters()
    assert [getattr(engine._ds, name) for name in COUNTERS] == [0] * len(COUNTERS)


def test_the_scaler_of_fp16_is_plain_numbers(inside):
    stage, _, internals = inside
    assert (internals.loss_scaler is None) == (stage == 0)
    if stage:
        assert isinstance(vars(internals.loss_scaler)["cur_scale"], int | float)


def test_what_keeps_a_module_of_stage_three_alive_is_a_list_that_can_be_cut():
    assert isinstance(FWD_MODULE_STACK, list)


def test_the_kernel_that_is_not_compiled_has_the_name_it_had():
    assert deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] is False


def test_mlflow_stays_out_of_a_worker_until_somebody_asks_for_it():
    lines = (
        "import sys",
        "from trainers.deepspeed_internals import import_deepspeed",
        "assert import_deepspeed().initialize",
        "assert 'mlflow' not in sys.modules",
        "import mlflow",
        "assert mlflow.set_experiment",
    )
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)
