"""Training in rounds as a specification: what is refused, what a run is called, what rounds are."""

from __future__ import annotations

import dataclasses

import pytest

from sweeps.compose import compose_sweep
from sweeps.cost.schedule_curves import curves_of
from sweeps.cost.work_count import count_work
from sweeps.manifest.build import build_manifest
from sweeps.manifest.manifest import Manifest
from sweeps.sharing.packs import not_packed_because
from sweeps.sharing.share_groups import ShareGroups
from sweeps.sharing.stages import Stage, learning_rates, plan_stages
from sweeps.spec import CurateSpec, RunSpec, SpecError, phases_of, spec_from_dict, spec_to_dict

ROUNDS = ("data=addition_solved", "data.prompts_per_step=8", "objective=sft", "curate=escaping_collapse")


def manifest_of(*words: str) -> Manifest:
    return build_manifest(compose_sweep(["eval=none", *words]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*ROUNDS, "curate.beta=1.5"], r"curate\.beta=1\.5: must lie in \[0, 1\]"),
        ([*ROUNDS, "curate.gamma=-0.1"], r"curate\.gamma=-0\.1: must lie in \[0, 1\]"),
        ([*ROUNDS, "curate.gamma=nan"], r"curate\.gamma=nan: must"),
        ([*ROUNDS, "curate.rounds=0"], r"curate\.rounds=0: must be at least 1"),
        ([*ROUNDS, "curate.completions=0"], r"curate\.completions=0: must be at least 1"),
        ([*ROUNDS, "curate.prompts=1281"], r"curate\.prompts=1281: 'addition_solved' has 1,280 rows"),
        ([*ROUNDS, "curate.from=first"], r"curate\.from='first': choose one of previous, base"),
        ([*ROUNDS, "steps=12"], r"steps=12: are those of all rounds together.*such as 15"),
        ([*ROUNDS, "data.answer_field=null"], r"curate=escaping_collapse: needs a right answer in every row"),
        (
            [*ROUNDS, "example=carry-1,carry-2"],
            r"example=carry-1,carry-2: these runs train on the prompts of",
        ),
        (["curate=escaping_collapse", "objective=em"], r"curate=escaping_collapse: writes completions of a"),
        ([*ROUNDS, "objective=em"], r"likelihood alone, which objective=em does not; choose objective=sft"),
        ([*ROUNDS, "objective.entropy_weight=1"], r"which objective=sft does not"),
        (
            [*ROUNDS, "curate=uncurated", "curate.beta=0.1"],
            r"curate\.beta=0\.1: curate=uncurated does not read",
        ),
        ([*ROUNDS, "data=addition", "eval=addition"], r"the completion '143' holds no answer that curate"),
        (["curate.beta=0.1"], r"curate\.beta=0\.1: curate=none does not read it"),
        ([*ROUNDS, "curate.answer_pattern='('"], r"curate\.answer_pattern='\(': is no regular expression"),
        ([*ROUNDS, "optim.lr=1e-4,2e-4", "init_from='optim.lr=1e-4'"], r"init_from"),
    ],
)
def test_what_cannot_be_is_refused_in_one_message(words, message):
    with pytest.raises(SpecError, match=message) as error:
        manifest_of(*words)
    assert len(str(error.value)) < 500
    assert "\n" not in str(error.value)


def test_a_run_without_rounds_is_the_run_it_was_before_there_were_any():
    assert manifest_of().run_ids == manifest_of("curate=none").run_ids
    assert spec_to_dict(RunSpec())["curate"]["from"] == "previous"
    assert spec_from_dict(spec_to_dict(RunSpec())) == RunSpec()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rounds", 2),
        ("completions", 2),
        ("prompts", 8),
        ("gamma", 0.1),
        ("beta", 0.2),
        ("otherwise", "wrong"),
        ("from", "base"),
        ("answer_pattern", r"'(\d+)'"),
    ],
)
def test_every_key_of_rounds_changes_the_identity(key, value):
    plain = manifest_of(*ROUNDS)
    assert manifest_of(*ROUNDS, f"curate.{key}={value}").run_ids != plain.run_ids
    assert manifest_of(*ROUNDS).run_ids == plain.run_ids


def test_round_t_is_the_run_of_t_rounds():
    run = manifest_of(*ROUNDS).spec(0)
    assert (run.steps, run.own_steps, run.steps_before) == (10, 2, 8)
    phases = phases_of(run)
    assert [(p.curate.rounds, p.steps) for p in phases] == [(1, 2), (2, 4), (3, 6), (4, 8), (5, 10)]
    shorter = manifest_of(*ROUNDS, "curate.rounds=3", "steps=6")
    assert phases[2].run_id == shorter.run_ids[0]
    assert phases[2] == shorter.spec(0)


def test_each_round_runs_through_the_schedule_by_itself():
    run = manifest_of(*ROUNDS, "schedule=linear", "steps=20").spec(0)
    assert learning_rates(run) == tuple(run.optim.lr * m for m in (1.0, 0.75, 0.5, 0.25))
    [curve] = curves_of(manifest_of(*ROUNDS, "schedule=linear", "steps=20", "seed=0,1"))
    assert (curve.steps, curve.multipliers) == (4, (1.0, 0.75, 0.5, 0.25))


def walked(stages: tuple[Stage, ...]) -> list[Stage]:
    return [each for stage in stages for each in (stage, *walked(stage.children))]


def test_rounds_that_runs_have_in_common_are_trained_once():
    long, short = manifest_of(*ROUNDS).spec(0), manifest_of(*ROUNDS, "curate.rounds=2", "steps=4").spec(0)
    other = manifest_of(*ROUNDS, "curate.beta=0.3").spec(0)
    trees = plan_stages([long, short, other])
    assert sum(tree.num_steps for tree in trees) == 10 + 10
    spans = sorted((s.runs, s.phase, s.first_step, len(s.lrs), s.ends) for s in walked(trees))
    assert spans[:5] == [
        ((0,), 2, 5, 2, ()),
        ((0,), 3, 7, 2, ()),
        ((0,), 4, 9, 2, (0,)),
        ((0, 1), 0, 1, 2, ()),
        ((0, 1), 1, 3, 2, (1,)),
    ]


def test_runs_are_judged_at_the_steps_of_all_rounds():
    run = manifest_of(*ROUNDS).spec(0)
    judged = dataclasses.replace(run, eval=dataclasses.replace(run.eval, path="b", steps=(0, 2, 5, 6)))
    stages = walked(plan_stages([judged]))
    assert sorted(step for stage in stages for step in stage.evaluations) == [0, 2, 5, 6, 10]


def test_the_work_of_rounds_is_what_their_stages_hold():
    manifest = manifest_of(
        *ROUNDS, "seed=range(2)", "curate.rounds=2", "steps=4,6", "curate.prompts=8", "eval=addition"
    )
    work = count_work(manifest)
    assert (work.naive.steps, work.naive.rollout_batches, work.naive.gradients) == (20, 8, 20)
    # Of each seed's two runs the shorter one's two steps lead into its own second round.
    assert (work.shared.steps, work.shared.rollout_batches) == (2 * (3 + 2 + 3), 2 * (1 + 1 + 1))


def test_runs_that_begin_with_the_same_round_travel_together():
    manifest = manifest_of(*ROUNDS, "steps=10", "curate.beta=0.1,0.3", "optim.lr=1e-4,2e-4")
    groups = ShareGroups(manifest)
    betas = [manifest.spec(row).curate.beta for row in range(4)]
    together = {(betas[a], betas[b]) for a in range(4) for b in range(4) if _alike(groups, a, b)}
    assert together == {(0.1, 0.1), (0.3, 0.3)}


def _alike(groups: ShareGroups, a: int, b: int) -> bool:
    return bool(groups.same_rollouts[a] == groups.same_rollouts[b])


def test_runs_in_rounds_are_in_no_pack():
    spec = manifest_of(*ROUNDS, "engine.pack=8").spec(0)
    assert not_packed_because(spec) == "curate.rounds=5"


def test_a_procedure_by_hand_reads_what_it_says():
    assert not CurateSpec().is_on
    assert CurateSpec(name="escaping_collapse", otherwise="wrong").labels
    assert not CurateSpec(name="uncurated").labels
