"""What a trainer has reported is there after kill -9 of its worker and of the driver."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest

from analysis import open_sweep
from orchestrator.inspect.status import run_story
from orchestrator.store.layout import Layout
from orchestrator.store.reports import reported_rows
from tests.chaos.harness import kill, wait_until

pytestmark = pytest.mark.chaos


def kept(sweep):
    """Steps of each attempt."""
    found = defaultdict(list)
    for row in reported_rows(Layout(sweep.folder)):
        assert row.metrics == {"loss": 1 / (row.step + 1), "nth": row.attempt}
        found[row.run_id, row.attempt].append(row.step)
    return found


def told(folder):
    """How many steps the trainers know that they have reported, by attempt."""
    found = {}
    for path in folder.iterdir():
        run_id, _, attempt = path.name.partition("-")
        found[run_id, int(attempt)] = path.stat().st_size
    return found


def test_rows_outlive_the_kill_of_workers_and_drivers_and_stay_apart_from_results(tmp_path, new_sweep):
    notes = tmp_path / "notes"
    notes.mkdir()
    words = ("sweep=noop", "sweep.n=4", "trainer.target=tests.chaos.trainers.Telling")
    words += (f"+trainer.params.folder={notes}", "cluster.num_workers=2", "cluster.batch_s=0")
    sweep = new_sweep(words=words, pace_s=60)
    process = sweep.launch()
    wait_until(lambda: sum(num > 100 for num in told(notes).values()) >= 2)
    random.Random(4).choice(sweep.workers()).kill()
    sweep.fault()
    wait_until(lambda: sum(num > 100 for num in told(notes).values()) >= 3)
    kill(process)
    sweep.fault()
    sweep.assert_no_process_left()
    expected, found = told(notes), kept(sweep)
    assert len(expected) >= 3
    for attempt, num in expected.items():  # the last one may have been written and not yet noted
        assert found[attempt] == list(range(len(found[attempt])))
        assert len(found[attempt]) in (num, num + 1)
    sweep.finish()
    assert sweep.verify()["ok"]
    steps = open_sweep(sweep.folder).steps()
    assert len(steps) == 4 * 3
    assert (steps.groupby("run_id")["nth"].nunique() == 1).all()
    story = [run_story(sweep.folder, run_id)["attempts"] for run_id in {run_id for run_id, _ in expected}]
    told_of = sorted(attempt["reported"] for attempts in story for attempt in attempts)
    assert told_of == sorted([3] * len(story) + [len(rows) for rows in found.values()])
