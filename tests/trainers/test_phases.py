"""Runs that start from another run's result."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from sweeps.sharing.stages import plan_stages
from sweeps.spec import InitSpec, RunSpec, group_to_dict, phases_of
from tests.trainers.comparing import numbers
from tests.trainers.worlds import tiny_spec
from trainers.policy_trainer import PolicyTrainer
from trainers.protocol import RunContext, WorkerContext


def after(earlier: RunSpec, spec: RunSpec) -> RunSpec:
    """The run of ``spec`` from the result of ``earlier``."""
    groups = ("objective", "example", "optim", "init")
    changes = {g: group_to_dict(getattr(earlier, g)) for g in groups}
    scalars = {"steps": earlier.steps, "seed": earlier.seed}
    return dataclasses.replace(spec, init=InitSpec(changes=changes | scalars))


def chain(**changes) -> list[RunSpec]:
    """Two runs alone, each after the other, and one after both."""
    first = tiny_spec(steps=2, optim={"lr": 2e-4}, **changes)
    second = tiny_spec(steps=3, objective={"temperature": 1.0}, optim={"lr": 1e-4, "beta1": 0.8}, **changes)
    ab = after(first, second)
    return [first, second, ab, after(second, first), after(ab, first)]


def test_the_earliest_phase_comes_first_and_has_its_own_identity():
    first, second, ab, _, aba = chain()
    assert phases_of(ab) == (first, ab)
    assert [p.run_id for p in phases_of(aba)] == [first.run_id, ab.run_id, aba.run_id]
    assert len({spec.run_id for spec in chain()}) == 5
    assert ab.parent == first
    assert second.parent is None


def test_phases_in_common_are_one_stretch_of_the_tree():
    trees = plan_stages(chain())
    assert sum(tree.num_steps for tree in trees) == 2 + 3 + 3 + 2 + 2
    assert sorted(len(tree.runs) for tree in trees) == [2, 3]


@pytest.mark.parametrize(
    "engine", [{}, {"zero_stage": 1}, {"zero_stage": 2, "precision": "bf16"}, {"zero_stage": 3}]
)
def test_a_phase_is_the_run_from_the_earlier_ones_kept_weights_bit_for_bit(trainer, tmp_path, engine):
    first, second, ab, *_ = chain(engine=engine, eval={"steps": [0, 1], "limit": 12})
    kept = dataclasses.replace(first, resources=dataclasses.replace(first.resources, keep_checkpoints="last"))
    trainer.run(kept, RunContext(checkpoint_dir=tmp_path))
    start = InitSpec(runs=(first.run_id,), folders=(str(tmp_path / "step-2"),))
    from_disk = trainer.run(dataclasses.replace(second, init=start), RunContext())
    in_memory = trainer.run(ab, RunContext())
    assert numbers(in_memory.to_json()) == numbers(from_disk.to_json())
    assert in_memory.metrics != trainer.run(second, RunContext()).metrics


def test_phases_give_the_same_bits_shared_and_alone_and_with_one_hot_engine(trainer):
    specs = chain(eval={"steps": [0, 1, 9], "limit": 12}, engine={"max_hot_engines": 1})
    together = dict(trainer.run_group(specs, [RunContext() for _ in specs]))
    for position, spec in enumerate(specs):
        fresh = PolicyTrainer(WorkerContext())
        assert numbers(together[position].to_json()) == numbers(fresh.run(spec, RunContext()).to_json())
        fresh.close()


def test_a_later_phase_is_held_against_the_untrained_model(trainer):
    first, _, ab, *_ = chain(eval={"steps": [0], "limit": 12})
    base = trainer.run(first, RunContext()).metrics["base_accuracy_sampled"]
    result = trainer.run(ab, RunContext())
    assert result.metrics["base_accuracy_sampled"] == base
    assert [row["step"] for row in result.steps] == [0, 1, 2, 3]
    assert result.metrics["init_s"] > 0


def test_a_killed_later_phase_goes_on_where_it_was(trainer, tmp_path):
    class Killed(Exception):
        pass

    *_, ba, _ = chain()
    spec = dataclasses.replace(ba, steps=3, resources=dataclasses.replace(ba.resources, save_every_steps=1))

    def killer(words: str) -> None:
        if words == "step 2 of 3" and not (Path(tmp_path) / "again").exists():
            beats.append(words)
            if len(beats) == 2:  # the first phase says the same
                raise Killed

    beats: list[str] = []
    with pytest.raises(Killed):
        trainer.run(spec, RunContext(checkpoint_dir=tmp_path, heartbeat=killer))
    assert [p.name for p in (tmp_path / "state").iterdir()] == ["step-2"]
    resumed = trainer.run(spec, RunContext(attempt=1, checkpoint_dir=tmp_path))
    assert numbers(resumed.to_json()) == numbers(trainer.run(spec, RunContext()).to_json())


def test_anothers_or_damaged_weights_are_refused(trainer, tmp_path):
    spec = tiny_spec(steps=1, resources={"keep_checkpoints": "last"})
    trainer.run(spec, RunContext(checkpoint_dir=tmp_path))
    start = InitSpec(runs=("0" * 32,), folders=(str(tmp_path / "step-1"),))
    with pytest.raises(ValueError, match="weights of run"):
        trainer.run(dataclasses.replace(spec, init=start), RunContext())


def test_a_diverged_earlier_run_makes_those_after_it_diverge(trainer):
    first = tiny_spec(steps=2, optim={"lr": 1e30})
    result = trainer.run(after(first, tiny_spec(steps=2)), RunContext())
    assert result.outcome == "diverged"


def test_runs_whose_earlier_ones_part_share_no_first_step(trainer):
    specs = [
        tiny_spec(
            steps=3,
            optim={"lr": 1e-3},
            schedule={"name": name},
            eval={"path": None},
            init={"changes": {"seed": 3}},
        )
        for name in ("constant", "cosine")
    ]
    [tree] = plan_stages(specs)
    assert [child.num_steps for child in tree.children] == [5, 5], "they part after the first step"
    alone = [numbers(trainer.run(spec, RunContext()).to_json()) for spec in specs]
    together = dict(trainer.run_group(specs, [RunContext()] * 2))
    assert [numbers(together[k].to_json()) for k in range(2)] == alone
    assert alone[0]["steps"][0] != alone[1]["steps"][0]
