"""kill -9 of the driver at random moments of a search: what is proposed stays the same, nothing is lost."""

from __future__ import annotations

import itertools

import pytest

from orchestrator.store.layout import Layout
from orchestrator.store.proposals import read_proposals
from tests.chaos.harness import Sweep, Tally
from tests.chaos.test_processes import kill_driver_repeatedly

pytestmark = pytest.mark.chaos

WORDS = (
    "sweep=noop",
    "trainer.target=tests.chaos.trainers.Rivals",
    "+trainer.params.effect=interval(-4,4)",
    "seed=range(5)",
    "+trainer.metrics.score={direction: max, range: [-100, 100]}",
    "search=tpe",
    "search.trials=40",
    "search.seeds_per_trial=2",
    "cluster.num_workers=2",
)
ONE_AT_A_TIME = (*WORDS, "search.max_concurrent=1")


def proposed(sweep):
    """Number, point and runs of every proposal, in their order."""
    found = read_proposals(Layout(sweep.folder))
    assert len({(r.number, r.held_out) for r in found}) == len(found), "something was proposed twice"
    return [(r.number, r.held_out, r.point, r.seeds, r.runs) for r in found]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    sweep = Sweep(tmp_path_factory.mktemp("search") / "sweep", *ONE_AT_A_TIME, pool="inline", pace_s=0.01)
    try:
        out, err = sweep.launch().communicate(timeout=120)
        assert out.strip(), err
        yield proposed(sweep)
    finally:
        sweep.close()


def prove(sweep, undisturbed):
    summary = sweep.finish()
    found = proposed(sweep)
    assert summary["search"]["trials"] == 40
    assert [number for number, held_out, *_ in found if not held_out] == list(range(40))
    assert undisturbed is None or found == undisturbed
    verdict = sweep.verify()
    assert (verdict["duplicated"], verdict["missing"], verdict["corrupt"], verdict["foreign"]) == (0, 0, 0, 0)
    assert verdict["expected"] == verdict["committed"] == 40 * 2 + 3
    Tally.survived += sweep.num_faults


def kill_searches(wanted, folder, new_sweep, words, undisturbed):
    """Kill drivers of searches, each up to ten times, until so many kills were survived."""
    num_kills = 0
    for seed in itertools.count():
        sweep = new_sweep(folder / f"search{seed}", words=words, pace_s=0.05)
        num_kills += kill_driver_repeatedly(sweep, min(10, wanted - num_kills), seed=seed, up_to_s=2.0)
        prove(sweep, undisturbed)
        if num_kills == wanted:
            return


def test_a_search_killed_10_times_proposes_the_same(tmp_path, new_sweep, undisturbed):
    kill_searches(10, tmp_path, new_sweep, ONE_AT_A_TIME, undisturbed)


def test_a_search_of_several_workers_killed_10_times_loses_and_repeats_nothing(tmp_path, new_sweep):
    kill_searches(10, tmp_path, new_sweep, WORDS, None)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_search_killed_200_times_proposes_the_same(tmp_path, new_sweep, undisturbed):
    kill_searches(200, tmp_path, new_sweep, ONE_AT_A_TIME, undisturbed)
