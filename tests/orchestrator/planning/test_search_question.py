"""What a search is checked by before it begins."""

from __future__ import annotations

import pytest

from orchestrator.planning import search_question
from orchestrator.planning.make_plan import make_plan
from orchestrator.planning.search_price import search_price
from orchestrator.planning.search_question import asked_runs, held_out_seeds
from orchestrator.store.layout import Layout
from orchestrator.store.proposals import read_proposals
from sweeps.compose import compose_sweep
from sweeps.grid.grid import axis, product
from sweeps.grid.space import space_of
from sweeps.manifest.build import build_manifest
from sweeps.spec.errors import SpecError
from sweeps.spec.sampler_rules import SamplerSpec
from tests.orchestrator.searches import search, searched, stored
from tests.orchestrator.sweeping import run

WORDS = (
    "sweep=quickstart",
    "search=tpe",
    "search.trials=5",
    "optim.lr=interval(1e-5,1e-3)",
    "model=tiny-64,tiny-96",
    "sampling.temperature=interval(0.5,1)",
)


def values(manifest, group, name):
    return {getattr(manifest.group(group, i), name) for i in range(len(manifest))}


def test_every_end_and_every_choice_is_composed_however_many_combinations_there_are(monkeypatch):
    whole = asked_runs(compose_sweep(WORDS)).checked
    monkeypatch.setattr(search_question, "MOST_CHECKED", 10)
    apart = asked_runs(compose_sweep(WORDS)).checked
    assert len(apart) < len(whole)
    for group, name in (("model", "name"), ("optim", "lr"), ("sampling", "temperature"), ("example", "name")):
        assert values(apart, group, name) == values(whole, group, name)


@pytest.mark.parametrize("more", ["search.trials=5000001", "search.held_out_seeds=5000000"])
def test_a_search_of_more_runs_than_a_sweep_may_have_is_refused(more):
    with pytest.raises(SpecError, match=r"makes up to 5,000,00\d runs .*; at most 5,000,000 are made"):
        asked_runs(compose_sweep([*WORDS, "search.held_out_seeds=0", more]))


@pytest.mark.parametrize(
    ("seeds", "judged_on", "held_out"),
    [
        ((0, 1, 2), (), (1, 2, 3)),
        ((0, 0, 2), (), (2, 3, 4)),
        ((0, 1, 2), (0, 1, 3), (2, 4, 5)),
        ((2**63 - 1, 0), (), (0, 1, 2)),
    ],
)
def test_held_out_seeds_are_none_that_the_trial_was_judged_on(seeds, judged_on, held_out):
    space = space_of(product(axis("optim.lr", [1e-5, 1e-4]), axis("seed", seeds)))
    assert held_out_seeds(space, SamplerSpec(), judged_on) == held_out


def asked(folder, *, axes, exclude="[]", trials=5):
    """A search of an own sweep file."""
    file = folder / "own.yaml"
    file.write_text(
        "# @package _global_\n"
        "defaults: [{override /trainer: noop}, {override /example: text}, {override /eval: none}]\n"
        "trainer: {params: {kind: none, x: 0.5}}\n"
        f"sweep: {{axes: {{{axes}, seed: range(2)}}, exclude: {exclude}}}\n"
    )
    return asked_runs(compose_sweep([f"sweep={file}", "search=random", f"search.trials={trials}"]))


X = "trainer.params.x: {values: 'interval(0,1)', when: trainer.params.kind=good}"


def test_a_conditional_interval_may_be_missing_from_the_first_trial(tmp_path):
    axes = f"trainer.params.kind: [good, bad], {X}"
    manifest = asked(tmp_path, axes=axes).manifest
    [values] = [a.values for a in manifest.axes if a.key == "trainer.params.x"]
    assert (len(manifest), values) == (1, ()), "the seed of the search draws a trial without it"


def test_a_space_whose_ends_are_all_excluded_is_searched_between_them(tmp_path):
    axes = "trainer.params.x: 'interval(0,1)'"
    ends = "[trainer.params.x=0, trainer.params.x=1]"
    checked = asked(tmp_path, axes=axes, exclude=ends).checked
    [x] = [a.values for a in checked.axes if a.key == "trainer.params.x"]
    assert 0 < x[0] < 1
    with pytest.raises(SpecError, match="leaves next to no choice of the space"):
        asked(tmp_path, axes=axes, exclude="['trainer.params.x<2']")


def test_a_plan_refuses_what_a_launch_into_that_directory_would(tmp_path):
    words = ("sweep=noop", "sweep.n=2", "+trainer.metrics.draw={direction: max}")
    run(tmp_path / "grid", build_manifest(compose_sweep(words)))
    space = ("+trainer.params.x=interval(0,1)", "search=random", "search.trials=2")
    with pytest.raises(SpecError, match="this directory holds the runs of a grid"):
        make_plan([*words, *space], tmp_path / "grid")
    assert make_plan([*words, *space], tmp_path / "none").search.trials_made == 0


def test_a_plan_tells_trials_that_are_made_and_runs_that_are_open(tmp_path):
    search(tmp_path, searched(trials=4))
    question = search_question.search_question(stored(tmp_path))
    price = search_price(question, tmp_path)
    assert (price.trials_made, price.num_open, price.runs_most) == (4, 0, 0)
    assert "4 made; at most 0 runs to do" in str(price)
    plan = make_plan(searched(trials=4).overrides, tmp_path)
    assert (len(plan.manifest), plan.done, plan.new) == (4 + 3, 4 + 3, 0)
    [spool] = [p for p in Layout(tmp_path).spools.glob("*.jsonl") if not p.name.startswith("driver")]
    spool.unlink()
    assert len(read_proposals(Layout(tmp_path))) == 5
    assert search_price(question, tmp_path).num_open == 4 + 3
