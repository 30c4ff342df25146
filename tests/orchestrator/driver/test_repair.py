"""After a repair everything that could be had is there again, and what is lost is said."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.driver.repair import repair
from orchestrator.driver.session import Session
from orchestrator.inspect.status import sweep_status
from orchestrator.inspect.verify import verify
from orchestrator.store import digest_writer
from orchestrator.store.index_reader import read_index
from orchestrator.store.journal import begin_epoch
from orchestrator.store.layout import Layout
from orchestrator.store.opening import open_manifest, open_to_look
from orchestrator.store.outcomes import FoundResult
from sweeps.spec.errors import DamagedError, UserError
from tests.orchestrator.sweeping import noop_manifest, run

MANIFEST = noop_manifest(6)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Four results and two cancelled runs."""
    folder = tmp_path_factory.mktemp("finished") / "sweep"
    with Session(Layout(folder)) as session:
        session.freeze(MANIFEST, pool="inline")
        session.settle(MANIFEST, session.read(MANIFEST), [1, 4], "cancelled")
    run(folder, MANIFEST)
    return folder


@pytest.fixture
def layout(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "sweep")
    return Layout(tmp_path / "sweep")


def verdict(layout, *, deep=True):
    opened = open_to_look(layout.root)
    return verify(opened.layout, opened.manifest, deep=deep, frozen=opened.damage)


def flip(path: Path, position: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(bytes(data))


def test_spools_alone_suffice(layout, finished):
    for path in layout.root.iterdir():
        if path != layout.spools:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert sweep_status(layout.root)["counts"]["done"] == 4
    assert not verdict(layout).ok
    with pytest.raises(DamagedError, match="emsweep repair"):
        open_manifest(layout.root)
    done = repair(layout)
    assert done.ok
    assert {"sweep.yaml", "manifest.parquet", "runs.parquet", "state.sqlite"} <= set(done.rebuilt)
    for name in ("sweep.yaml", "manifest.parquet"):
        assert (layout.root / name).read_bytes() == (finished / name).read_bytes()
    assert verdict(layout).ok
    assert sweep_status(layout.root)["counts"]["cancelled"] == 2


def test_a_directory_without_digests_runs_on_once_it_is_repaired(layout):
    layout.digests.unlink()
    assert repair(layout).ok
    open_manifest(layout.root)
    assert run(layout.root, MANIFEST).new == 0
    assert verdict(layout).ok


def test_a_whole_directory_stays_as_it_is(layout):
    before = pq.read_table(layout.table("runs"))
    done = repair(layout)
    assert (done.ok, done.lost, done.quarantined, done.mended, done.settled) == (True, [], [], [], [])
    assert pq.read_table(layout.table("runs")).equals(before)


def test_a_flipped_bit_never_forgets_a_cancel(layout):
    journal = layout.journal(1)
    data = journal.read_bytes()
    start = data.index(b'"kind":"settle"') - 18
    dice = random.Random(1)
    for _ in range(12):
        journal.write_bytes(data)
        flip(journal, dice.randrange(start, data.index(b"\n", start) + 1), dice.randrange(8))
        with Session(layout) as session, pytest.raises(DamagedError, match=r"driver-00001.*emsweep repair"):
            session.read(MANIFEST)
        status = sweep_status(layout.root)
        assert any("driver-00001" in finding for finding in status["findings"])
        assert any(entry.file == "spool/driver-00001.jsonl" for entry in verdict(layout, deep=False).damaged)
    done = repair(layout)
    assert done.ok
    assert len(done.mended) == 1
    assert journal.read_bytes() == data
    assert sweep_status(layout.root)["counts"]["cancelled"] == 2


def test_a_line_beyond_mending_is_kept_and_what_it_decided_is_said_to_be_unknown(layout):
    journal = layout.journal(1)
    data = journal.read_bytes()
    start = data.index(b'"kind":"settle"') - 18
    for position in (start + 30, start + 50, start + 70):
        flip(journal, position)
    bad = journal.read_bytes()[start : data.index(b"\n", start) + 1]
    done = repair(layout)
    [kept] = [path for path in layout.damaged.iterdir() if path.name != "lines.jsonl"]
    assert kept.read_bytes() == bad
    damage = json.loads((layout.damaged / "lines.jsonl").read_text())
    assert (damage["file"], damage["offset"]) == ("spool/driver-00001.jsonl", start)
    assert any("unknown" in text and "may have been cancelled" in text for text in done.lost)
    assert verdict(layout).unknown == 1
    assert any("unknown" in finding for finding in verdict(layout).findings)


def test_of_two_committed_results_the_first_counts(layout):
    [spool] = list(layout.spools.glob("e*.jsonl"))
    copy = spool.with_name("copied.jsonl")
    shutil.copy(spool, copy)
    reading = read_index(layout, MANIFEST.run_ids)
    first = reading.book.found(0)
    journal = begin_epoch(layout, MANIFEST.digest, reading)
    journal.adopt([FoundResult(0, copy.name, first.offset, first.length, "done")], 1.0)
    journal.close("", 1.0)
    assert verdict(layout, deep=False).duplicated == 1
    done = repair(layout)
    assert done.settled == [MANIFEST.run_ids[0]]
    assert done.ok
    book = read_index(layout, MANIFEST.run_ids).book
    assert book.spools[book.spool[0]] == spool.name


def test_a_lost_result_is_named_and_computed_again(layout):
    [spool] = layout.spools.glob("e*.jsonl")
    data = spool.read_bytes()
    start = data.index(b'"kind":"result"')
    for position in range(start, start + 9, 3):
        flip(spool, position)
    done = repair(layout)
    assert not done.ok
    assert any("results of 1 runs" in text for text in done.lost)
    run(layout.root, MANIFEST)
    assert verdict(layout).ok


def test_litter_and_files_in_the_wrong_shape_are_out_of_the_way(layout):
    (layout.parts / ".runs-00000.parquet.abcd1234.tmp").write_bytes(b"half")
    shutil.copy(layout.journal(1), layout.spools / "driver-00001 (copy).jsonl")
    layout.table("steps").unlink(missing_ok=True)
    layout.table("steps").mkdir()
    layout.status.unlink()
    layout.status.symlink_to("nowhere")
    done = repair(layout)
    assert done.ok
    assert "parts/.runs-00000.parquet.abcd1234.tmp" in done.removed
    assert {"spool/driver-00001 (copy).jsonl", "steps.parquet", "status.json"} <= set(done.quarantined)
    assert verdict(layout).ok


def test_a_manifest_that_no_journal_holds_is_said_to_be_lost_and_a_launch_brings_it_back(layout):
    for journal in layout.journal_paths():  # as format 1 wrote them
        lines = journal.read_bytes().splitlines(keepends=True)
        journal.write_bytes(b"".join(line for line in lines if b'"kind":"manifest"' not in line))
    for path in (layout.manifest, layout.digests):
        path.unlink()
    layout.config.write_text("format: 1\n")
    with pytest.raises(DamagedError, match=r"no journal holds it.*launch with the words"):
        repair(layout)
    run(layout.root, MANIFEST)
    assert verdict(layout).ok
    assert sweep_status(layout.root)["counts"]["done"] == 4


def test_a_folder_that_is_no_sweep_is_refused(tmp_path):
    with pytest.raises(UserError, match="not a sweep"):
        repair(Layout(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_value_that_was_changed_with_its_digest_is_found_by_verify_deep(layout):
    table = pq.read_table(layout.table("runs"))
    column = table.column_names.index("wall_s")
    values = table["wall_s"].to_pylist()
    values[2] = 99.0
    pq.write_table(table.set_column(column, "wall_s", pa.array(values)), layout.table("runs"))
    assert [entry.file for entry in verdict(layout, deep=False).damaged] == ["runs.parquet"]
    digest_writer.record(layout, layout.table("runs"))
    assert verdict(layout, deep=False).ok
    [entry] = verdict(layout).damaged
    assert entry.file == "runs.parquet"
    assert entry.why.startswith("wall_s in row 2 is 99.0, the spools say ")


def test_a_run_is_never_computed_as_another(layout):
    table = pq.read_table(layout.manifest)
    column = table.column_names.index("spec.seed")
    seeds = table["spec.seed"].to_pylist()
    seeds[3] += 4
    changed = table.set_column(column, "spec.seed", pa.array(seeds)).replace_schema_metadata(
        table.schema.metadata
    )
    pq.write_table(changed, layout.manifest)
    digest_writer.record(layout, layout.manifest)
    with pytest.raises(DamagedError, match=rf"run {MANIFEST.run_ids[3]} is not the one that its id says"):
        open_manifest(layout.root)
    assert repair(layout).ok
    assert open_manifest(layout.root)[1].digest == MANIFEST.digest
