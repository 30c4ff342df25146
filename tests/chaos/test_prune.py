"""kill -9 of the driver while runs are stopped early: what was stopped stays so, and nothing is lost."""

from __future__ import annotations

from collections import Counter

import pytest

from orchestrator.store.fencing import journal_lines
from orchestrator.store.layout import Layout
from orchestrator.store.records import StopRecord, record_of
from orchestrator.store.spool import SpoolHealth
from tests.chaos.harness import Tally
from tests.chaos.test_processes import kill_driver_repeatedly

pytestmark = pytest.mark.chaos

WORDS = (
    "sweep=noop",
    "trainer.target=tests.orchestrator.trainers.Curve",
    "+trainer.params.height=1,2,3,4,5,6,7,8",
    "+trainer.params.step_s=0.3",
    "seed=range(2)",
    "+trainer.metrics.score={direction: max, range: [-100, 100]}",
    "prune=asha",
    "prune.reduction=2",
    "cluster.num_workers=2",
)


def stops(sweep):
    lines = journal_lines(Layout(sweep.folder), SpoolHealth(), live=True)
    return [r for line in lines if isinstance(r := record_of(line.header), StopRecord)]


def test_a_pruned_sweep_killed_5_times_stops_no_run_twice(tmp_path, new_sweep):
    sweep = new_sweep(tmp_path / "pruned", words=WORDS)
    kill_driver_repeatedly(sweep, 5, seed=3, up_to_s=2.0)
    before = stops(sweep)
    summary = sweep.finish()
    after = stops(sweep)
    assert after[: len(before)] == before, "what was stopped before a kill stays so, at its step and value"
    found = Counter(record.run_id for record in after)
    assert set(found.values()) <= {1}
    stopped = summary.get("stopped", 0)
    assert summary["committed"] + stopped == 16
    assert stopped <= len(found), "a run that ended all the same before it heard of it has its result"
    verdict = sweep.verify()
    assert (verdict["duplicated"], verdict["missing"], verdict["corrupt"]) == (0, 0, 0)
    assert verdict["stopped"] == stopped
    Tally.survived += sweep.num_faults
