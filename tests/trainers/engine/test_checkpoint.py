from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from sweeps.spec import spec_from_dict
from tests.trainers.comparing import numbers
from tests.trainers.worlds import package_file, tiny_spec
from trainers.engine.checkpoint import check_weights
from trainers.protocol import Cancelled, RunContext


@pytest.mark.parametrize("zero_stage", [0, 2, 3])
def test_the_kept_model_is_a_folder_anyone_can_load_with_its_spec_and_digest_inside(
    trainer, tmp_path, zero_stage
):
    spec = tiny_spec(engine={"zero_stage": zero_stage}, resources={"keep_checkpoints": "last"})
    trainer.run(spec, RunContext(checkpoint_dir=tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["step-10"]
    folder = tmp_path / "step-10"
    metadata = check_weights(folder)
    assert metadata["run_id"] == spec.run_id
    assert spec_from_dict(json.loads(metadata["spec"])) == spec
    tuned = AutoModelForCausalLM.from_pretrained(folder)
    base = AutoModelForCausalLM.from_pretrained(package_file("trainers/tiny/models/tiny-64"))
    moved = [not torch.equal(a, b) for a, b in zip(tuned.parameters(), base.parameters(), strict=True)]
    assert all(moved)
    assert AutoTokenizer.from_pretrained(folder)("47+38=")["input_ids"]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664)])
def test_every_file_of_a_kept_model_and_of_a_state_has_the_mode_that_the_umask_asks_for(
    trainer, tmp_path, mask, mode
):
    kept = {"keep_checkpoints": "last", "save_every_steps": 1}
    spec = tiny_spec(steps=3, resources=kept, eval={"path": None})
    states: list[Path] = []

    def look(_: str) -> None:
        states.extend(path for path in tmp_path.glob("state/*/*"))
        assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("state/*/*")} <= {mode}

    before = os.umask(mask)
    try:
        trainer.run(spec, RunContext(checkpoint_dir=tmp_path, heartbeat=look))
    finally:
        os.umask(before)
    assert states
    files = list((tmp_path / "step-3").iterdir())
    assert "model.safetensors" in {path.name for path in files}
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in files} == {
        path.name: oct(mode) for path in files
    }


def test_a_kept_model_is_a_base_model_for_another_run(trainer, tmp_path):
    trainer.run(tiny_spec(resources={"keep_checkpoints": "last"}), RunContext(checkpoint_dir=tmp_path))
    again = tiny_spec(model={"path": str(tmp_path / "step-10")}, eval={"steps": [0]}, steps=1)
    first = trainer.run(tiny_spec(), RunContext()).metrics["accuracy_sampled"]
    assert trainer.run(again, RunContext()).metrics["base_accuracy_sampled"] == first


def test_damaged_weights_are_told_by_their_digest(trainer, tmp_path):
    trainer.run(tiny_spec(resources={"keep_checkpoints": "last"}), RunContext(checkpoint_dir=tmp_path))
    path = tmp_path / "step-10" / "model.safetensors"
    metadata = check_weights(path.parent)
    tensors = load_file(path)
    next(iter(tensors.values())).view(-1)[0] += 1e-3
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(ValueError, match="the file is damaged"):
        check_weights(path.parent)


def test_all_keeps_every_evaluated_step_and_none_keeps_nothing(trainer, tmp_path):
    every = tiny_spec(resources={"keep_checkpoints": "all"}, eval={"steps": [0, 1, 5], "limit": 4})
    trainer.run(every, RunContext(checkpoint_dir=tmp_path / "all"))
    assert sorted(p.name for p in (tmp_path / "all").iterdir()) == ["step-1", "step-10", "step-5"]
    trainer.run(tiny_spec(eval={"limit": 4}), RunContext(checkpoint_dir=tmp_path / "none"))
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("layout", [{"zero_stage": 0}, {"zero_stage": 2}, {"zero_stage": 3}])
@pytest.mark.parametrize("stop_after", [3, 9])
def test_a_killed_run_resumes_to_the_same_bits(trainer, tmp_path, layout, stop_after):
    spec = tiny_spec(engine=layout, resources={"save_every_steps": 2}, eval={"steps": [0, 2, 10]})
    whole = trainer.run(spec, RunContext()).to_json()
    beats: list[str] = []
    killed = RunContext(
        checkpoint_dir=tmp_path, cancelled=lambda: len(beats) >= stop_after, heartbeat=beats.append
    )
    with pytest.raises(Cancelled):
        trainer.run(spec, killed)
    steps: list[str] = []
    resumed = trainer.run(spec, RunContext(checkpoint_dir=tmp_path, heartbeat=steps.append)).to_json()
    assert len(steps) == 10 - stop_after // 2 * 2
    assert numbers(resumed) == numbers(whole)
    assert not (tmp_path / "state").exists()


def test_a_state_of_another_run_or_one_half_written_is_not_resumed_from(trainer, tmp_path):
    spec = tiny_spec(resources={"save_every_steps": 2}, eval={"path": None})
    beats: list[str] = []
    killed = RunContext(checkpoint_dir=tmp_path, cancelled=lambda: len(beats) >= 5, heartbeat=beats.append)
    with pytest.raises(Cancelled):
        trainer.run(spec, killed)
    (tmp_path / "state" / "step-6").mkdir()  # no progress.json: the kill came before it was complete
    for other in (tiny_spec(seed=1, eval={"path": None}), spec):
        steps: list[str] = []
        context = RunContext(checkpoint_dir=tmp_path, heartbeat=steps.append)
        if other is spec:
            trainer.run(other, context)
            assert len(steps) == 6
        else:
            with pytest.raises(Cancelled):
                trainer.run(
                    other, RunContext(checkpoint_dir=tmp_path, cancelled=lambda: True, heartbeat=steps.append)
                )
            assert not steps
