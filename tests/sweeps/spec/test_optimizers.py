"""What each optimizer reads, and where its state may be sharded."""

from __future__ import annotations

import dataclasses

import pytest
import yaml

from sweeps.sharing.packs import not_packed_because
from sweeps.sharing.stages import trunk_key
from sweeps.spec import (
    OptimSpec,
    RunSpec,
    SamplingSpec,
    SpecError,
    group_canonical,
    group_from_dict,
    spec_from_dict,
)
from sweeps.spec.optimizers import COMMON, OPTIMIZERS, readers
from tests.trainers.worlds import package_file

FIELDS = [f for f in dataclasses.fields(OptimSpec) if f.name not in COMMON]
OTHER = {"half_every_steps": 2, "eps": 1e-6, "d0": 1e-5, "d_coef": 0.5}
"""Another value of a field; 0.5 of those left out."""


@pytest.mark.parametrize("field", FIELDS, ids=lambda f: f.name)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_field_is_taken_by_the_optimizers_that_read_it_and_refused_by_the_others(name, field):
    value = OTHER.get(field.name, 0.5)
    if name in readers(field.name):
        assert getattr(OptimSpec(name=name, **{field.name: value}), field.name) == value
        changed = group_canonical("optim", OptimSpec(name=name, **{field.name: value}))
        assert changed != group_canonical("optim", OptimSpec(name=name))
        return
    with pytest.raises(SpecError, match=f"optim.{field.name}={value}: optim.name={name} does not read it"):
        OptimSpec(name=name, **{field.name: value})


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_option_of_each_optimizer_sets_a_rate_and_what_else_it_reads(name):
    written = yaml.safe_load(package_file(f"sweeps/conf/optim/{name}.yaml").read_text())
    spec = group_from_dict("optim", {k: float(v) if k != "name" else v for k, v in written.items()})
    assert spec.name == name
    assert {"lr", "weight_decay", "grad_clip"} < set(written)
    assert set(written) <= {*COMMON, *OPTIMIZERS[name].reads}


def test_fields_added_later_leave_the_identities_of_adamw_alone():
    assert group_canonical("optim", OptimSpec()) == (
        '{"beta1":0.9,"beta2":0.999,"eps":1e-08,"grad_clip":1.0,"lr":2e-05,"name":"adamw","weight_decay":0.01}'
    )


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("world_size", [1, 2])
def test_a_stage_that_cannot_shard_an_optimizer_is_refused_with_the_reason(name, stage, world_size):
    fields = {
        "optim": {"name": name},
        "engine": {"zero_stage": stage},
        "resources": {"world_size": world_size},
    }
    whole = name in ("muon", "adafactor") and stage > 0
    sums = name == "prodigy" and (stage == 3 or (stage > 0 and world_size > 1))
    if whole or sums or (name == "schedule_free" and stage == 3):
        with pytest.raises(
            SpecError, match=f"optim.name={name}: cannot be sharded by.*zero_stage={stage}.*set"
        ):
            spec_from_dict(fields)
    else:
        assert spec_from_dict(fields).optim.name == name


def test_only_the_optimizers_that_deepspeed_has_for_the_host_are_offloaded():
    engine = {"zero_stage": 2, "offload": True}
    for name in ("adamw", "adam"):
        assert spec_from_dict({"optim": {"name": name}, "engine": engine}).engine.offload
    with pytest.raises(SpecError, match=r"optim.name=lion: engine.offload keeps.*engine.offload=false"):
        spec_from_dict({"optim": {"name": "lion"}, "engine": engine})


def test_schedule_free_needs_a_share_of_the_average():
    with pytest.raises(SpecError, match=r"optim.beta1=0.0: must be above 0 for optim.name=schedule_free"):
        OptimSpec(name="schedule_free", beta1=0.0)


def test_an_unknown_optimizer_names_the_nearest():
    with pytest.raises(SpecError, match='did you mean "adafactor"'):
        OptimSpec(name="adafacter")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_share_no_step_and_only_adamw_is_packed(name):
    short = SamplingSpec(max_new_tokens=16)
    spec = dataclasses.replace(RunSpec(), optim=OptimSpec(name=name), sampling=short)
    assert (trunk_key(spec) == trunk_key(dataclasses.replace(RunSpec(), sampling=short))) is (name == "adamw")
    assert not_packed_because(spec) == ("" if name == "adamw" else f"optim.name={name}")
