"""What no group of a run can check by itself, for rates that a run finds."""

from __future__ import annotations

import pytest

from sweeps.compose import compose_sweep
from sweeps.manifest.build import build_manifest
from sweeps.spec import SpecError, spec_from_dict

WORDS = ("sweep=quickstart", "schedule=autolrs")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("steps=10",), r"steps=10: .* set steps to at least 100, or choose another .* at least 80 steps"),
        (
            ("steps=90",),
            r"steps=90: .* at least 100, or lower schedule.probe_every_steps to between 80 and 90",
        ),
        (("steps=100", "schedule.probe_every_steps=200"), "set steps to at least 200"),
        (("steps=100", "objective.compat=upstream"), "objective.compat=upstream reproduces a trainer"),
        (("steps=100", "schedule.warmup_steps=1"), "tries rates from the first step on; leave it at 0"),
    ],
)
def test_runs_that_cannot_find_their_rates_are_refused_when_composed(words, message):
    with pytest.raises(SpecError, match=message):
        build_manifest(compose_sweep([*WORDS, *words]))


def test_a_run_of_one_stretch_is_taken():
    assert build_manifest(compose_sweep([*WORDS, "steps=100"])).spec(0).schedule.probes


def test_only_the_trainer_that_ships_tries_rates():
    with pytest.raises(SpecError, match=r"trainer.target='mine.Own'; choose another schedule"):
        spec_from_dict({"schedule": {"name": "autolrs"}, "trainer": {"target": "mine.Own"}, "steps": 100})


def test_rounds_that_may_keep_nothing_are_refused():
    rows = {"path": "a.jsonl", "targets": "completions", "has_answers": True}
    rounds = {"curate": {"name": "escaping_collapse", "rounds": 2}, "data": rows}
    objective = {"name": "sft", "entropy_weight": 0.0, "nll_weight": 1.0}
    run = {**rounds, "example": {"name": "", "prompts": []}, "objective": objective, "steps": 200}
    assert spec_from_dict(run).own_steps == 100
    with pytest.raises(SpecError, match=r"a round of curate.rounds=2 may keep nothing"):
        spec_from_dict({**run, "schedule": {"name": "autolrs"}})
