"""kill -9 of the driver at random moments of a race: what is decided, and by which seeds, stays the same."""

from __future__ import annotations

import itertools

import pytest

from orchestrator.store.decisions import read_decisions
from orchestrator.store.layout import Layout
from tests.chaos.harness import Sweep, Tally
from tests.chaos.test_processes import kill_driver_repeatedly

pytestmark = pytest.mark.chaos

WORDS = (
    "sweep=noop",
    "trainer.target=tests.chaos.trainers.Rivals",
    "+trainer.params.effect=-4,-2,-1,0,1,2,4",
    "seed=range(20)",
    "+trainer.metrics.score={direction: max, range: [-100, 100]}",
    "search=race",
    "search.base=0",
    "cluster.num_workers=2",
)


def decided(sweep):
    """Side, seeds and evidence of every decision, by a run of its cell."""
    found = read_decisions(Layout(sweep.folder))
    assert len({d.cells for d in found}) == len(found), "a cell was decided twice"
    return {d.cells: (d.side, d.num_seeds, d.log_evidence, d.low, d.high) for d in found}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    sweep = Sweep(tmp_path_factory.mktemp("race") / "sweep", *WORDS, pool="inline", pace_s=0.01)
    try:
        out, err = sweep.launch().communicate(timeout=120)
        assert out.strip(), err
        yield decided(sweep)
    finally:
        sweep.close()


def prove(sweep, undisturbed):
    summary = sweep.finish()
    assert decided(sweep) == undisturbed
    assert summary["decided"] == len(undisturbed) >= 4
    verdict = sweep.verify()
    assert (verdict["duplicated"], verdict["missing"], verdict["corrupt"]) == (0, 0, 0)
    Tally.survived += sweep.num_faults


def kill_races(wanted, folder, new_sweep, undisturbed):
    """Kill drivers of races, each up to ten times, until so many kills were survived."""
    num_kills = 0
    for seed in itertools.count():
        sweep = new_sweep(folder / f"race{seed}", words=WORDS, pace_s=0.05)
        num_kills += kill_driver_repeatedly(sweep, min(10, wanted - num_kills), seed=seed, up_to_s=2.0)
        prove(sweep, undisturbed)
        if num_kills == wanted:
            return


def test_a_race_killed_20_times_decides_the_same(tmp_path, new_sweep, undisturbed):
    kill_races(20, tmp_path, new_sweep, undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_race_killed_200_times_decides_the_same(tmp_path, new_sweep, undisturbed):
    kill_races(200, tmp_path, new_sweep, undisturbed)
