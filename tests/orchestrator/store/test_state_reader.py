"""The index answers as the spools would, or not at all."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest

from orchestrator.store import digest_writer, digests
from orchestrator.store.history import history_of
from orchestrator.store.index_reader import read_index
from orchestrator.store.layout import Layout
from orchestrator.store.run_index import CODE
from orchestrator.store.sqlite_path import state_path
from orchestrator.store.state import RunRow, StateWriter
from orchestrator.store.state_reader import indexed_runs
from tests.orchestrator.sweeping import noop_manifest, run
from tests.orchestrator.trainers import HERE


@pytest.fixture
def swept(tmp_path):
    """Failures, retries and results, and the manifest they are of."""
    manifest = noop_manifest(24, target=f"{HERE}.Faulty", every=6)
    run(tmp_path, manifest)
    return Layout(tmp_path), manifest


def test_the_index_tells_outcomes_and_failures_as_the_spools_do(swept):
    layout, manifest = swept
    indexed, read = indexed_runs(layout, manifest), read_index(layout, manifest.run_ids).book
    assert indexed.outcome == read.outcome
    assert indexed.notes == read.notes
    assert len(indexed.notes) == 4


def test_it_still_does_after_a_second_life_that_repeats_nothing(swept):
    layout, manifest = swept
    grown = noop_manifest(30, target=f"{HERE}.Faulty", every=6)
    run(layout.root, grown)
    indexed, read = indexed_runs(layout, grown), read_index(layout, grown.run_ids).book
    assert indexed.outcome == read.outcome
    assert set(indexed.notes) == set(read.notes)
    assert indexed_runs(layout, manifest) is None, "it answers for another manifest"


def test_an_index_with_damaged_pages_is_written_anew(swept):
    layout, manifest = swept
    path = state_path(layout)
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\x07" * (len(content) - 4096))
    assert run(layout.root, manifest).new == 0
    indexed, read = indexed_runs(layout, manifest), read_index(layout, manifest.run_ids).book
    assert indexed.outcome == read.outcome


def damage_journal(layout):
    with layout.journal(1).open("ab") as file:
        file.write(b'{"one more":"record"}\n')


def damage_file(layout):
    state_path(layout).write_bytes(b"SQLite format 3\0" + bytes(4096))


def kill_driver(layout):
    with sqlite3.connect(state_path(layout)) as db:
        db.execute("UPDATE meta SET value = 0 WHERE key = 'closed'")


def age(layout):
    with sqlite3.connect(state_path(layout)) as db:
        db.execute("PRAGMA user_version = 1")


def delete(layout):
    state_path(layout).unlink()


@pytest.mark.parametrize("harm", [damage_journal, damage_file, kill_driver, age, delete])
def test_an_index_that_may_lag_behind_the_spools_is_not_believed(swept, harm):
    layout, manifest = swept
    harm(layout)
    assert indexed_runs(layout, manifest) is None


@pytest.mark.parametrize("harm", [damage_file, age, delete])
def test_the_next_driver_writes_a_bad_index_anew(swept, harm):
    layout, _ = swept
    harm(layout)
    grown = noop_manifest(30, target=f"{HERE}.Faulty", every=6)
    run(layout.root, grown)
    assert indexed_runs(layout, grown).outcome == read_index(layout, grown.run_ids).book.outcome


def test_a_runs_story_has_every_attempt_in_order(tmp_path):
    manifest = noop_manifest(12, target=f"{HERE}.Moody")
    run(tmp_path, manifest)
    index = next(i for i in range(12) if manifest.axis_values(i)["seed"] == 3)
    story = history_of(Layout(tmp_path), manifest.run_ids[index])
    assert (story.outcome, story.error) == ("done", None)
    assert [(a.attempt, a.ended) for a in story.attempts] == [(0, "failed"), (1, "done")]
    assert story.attempts[0].granted_at <= story.attempts[1].granted_at


def test_the_story_of_a_run_that_failed_says_why(swept):
    layout, manifest = swept
    index = next(i for i in range(24) if manifest.axis_values(i)["seed"] == 6)
    story = history_of(layout, manifest.run_ids[index])
    assert (story.outcome, story.error) == ("quarantined", "ArithmeticError: seed 6 does not please me")
    assert CODE[story.outcome] == indexed_runs(layout, manifest).outcome[index]


def test_the_index_holds_what_its_digest_says_whoever_had_it_open_when_its_driver_ended(tmp_path):
    manifest, layout = noop_manifest(4), Layout(tmp_path)
    layout.create()
    writer = StateWriter(layout.state, epoch=1, manifest=manifest.digest)
    with contextlib.closing(sqlite3.connect(layout.state)) as onlooker:
        assert onlooker.execute("SELECT count(*) FROM runs").fetchone() == (0,)
        writer.settled([RunRow(run_id, "done") for run_id in manifest.run_ids])
        writer.close(0)
        digest_writer.record(layout, layout.state)
    with contextlib.closing(sqlite3.connect(layout.state)) as next_driver:
        next_driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert next_driver.execute("SELECT count(*) FROM runs").fetchone() == (4,)
    assert digests.damage_of(layout, layout.state) == ""
