"""What every place of ``state.sqlite`` promises: beside the sweep, or in the cache folder for one on a
network file system.
"""

from __future__ import annotations

import contextlib
import sqlite3

import pytest

from orchestrator.inspect.status import sweep_status
from orchestrator.inspect.verify import verify
from orchestrator.store import sqlite_path
from orchestrator.store.index_reader import read_index
from orchestrator.store.layout import Layout
from orchestrator.store.sqlite_path import state_path
from orchestrator.store.state_reader import indexed_runs, is_complete
from tests.orchestrator.sweeping import noop_manifest, run
from tests.orchestrator.trainers import HERE

MANIFEST = noop_manifest(8, target=f"{HERE}.Faulty", every=4)
GROWN = noop_manifest(10, target=f"{HERE}.Faulty", every=4)


@pytest.fixture(params=["ext4", "nfs4"])
def swept(request, tmp_path, monkeypatch):
    """A finished sweep on a file system of a type, and where its index must lie."""
    monkeypatch.setattr(sqlite_path, "kind_of", lambda *_: request.param)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run(tmp_path / "sweep", MANIFEST)
    state_dir = tmp_path / "sweep" if request.param == "ext4" else tmp_path / "cache" / "emsweep"
    return Layout(tmp_path / "sweep"), state_dir


def rows(layout):
    with contextlib.closing(sqlite3.connect(state_path(layout))) as db:
        return {t: sorted(db.execute(f"SELECT * FROM {t}"), key=repr) for t in ("runs", "attempts")}


def test_the_index_lies_at_its_place_and_nowhere_else(swept):
    layout, state_dir = swept
    assert state_path(layout).parent == state_dir
    databases = [p for p in layout.root.parent.rglob("*.sqlite") if p.name != "digests.json"]
    assert databases == [state_path(layout)]


def test_it_answers_as_the_spools_do(swept):
    layout, _ = swept
    indexed, read = indexed_runs(layout, MANIFEST), read_index(layout, MANIFEST.run_ids).book
    assert (indexed.outcome, indexed.notes) == (read.outcome, read.notes)
    assert sweep_status(layout.root)["counts"]["quarantined"] == 2


def test_a_reader_leaves_no_file_behind(swept):
    layout, state_dir = swept
    before = sorted(state_dir.rglob("*"))
    indexed_runs(layout, MANIFEST)
    assert sorted(state_dir.rglob("*")) == before


@pytest.mark.parametrize("harm", ["delete", "damage", "empty"])
def test_a_bad_index_is_not_believed_and_written_anew_by_the_next_resume(swept, harm):
    layout, _ = swept
    before, status = rows(layout), sweep_status(layout.root)
    path = state_path(layout)
    if harm == "delete":
        path.unlink()
    else:
        path.write_bytes(b"SQLite format 3\0" + bytes(4096) if harm == "damage" else b"")
    assert not is_complete(layout, MANIFEST)
    assert sweep_status(layout.root) == status, "the spools answer meanwhile"
    assert run(layout.root, MANIFEST).new == 0
    assert is_complete(layout, MANIFEST)
    assert rows(layout) == before


def test_a_second_life_goes_on_in_it(swept):
    layout, _ = swept
    before = rows(layout)
    assert run(layout.root, GROWN).new == 1
    after = rows(layout)
    assert set(before["runs"]) < set(after["runs"])
    assert set(before["attempts"]) < set(after["attempts"])
    assert indexed_runs(layout, MANIFEST) is None
    assert verify(layout, GROWN).duplicated == 0


def test_an_index_whose_driver_was_killed_is_not_believed(swept):
    layout, _ = swept
    with contextlib.closing(sqlite3.connect(state_path(layout))) as db, db:
        db.execute("UPDATE meta SET value = 0 WHERE key = 'closed'")
    assert indexed_runs(layout, MANIFEST) is None
