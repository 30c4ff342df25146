"""``verify`` proves one result per run, and finds what breaks the proof."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from orchestrator.inspect.verify import verify
from orchestrator.store.journal import Journal
from orchestrator.store.layout import Layout
from orchestrator.store.outcomes import FoundResult
from tests.orchestrator.sweeping import noop_manifest, run


@pytest.fixture
def swept(tmp_path):
    manifest = noop_manifest(20)
    run(tmp_path, manifest)
    return Layout(tmp_path), manifest


def spool(layout):
    return next(p for p in layout.spools.iterdir() if not p.name.startswith("driver-"))


def lines_of(path):
    return path.read_bytes().splitlines(keepends=True)


def test_a_finished_sweep_is_proven(swept):
    verdict = verify(*swept)
    assert verdict.ok
    assert (verdict.expected, verdict.committed, verdict.missing) == (20, 20, 0)


def test_a_flipped_bit_is_found_and_its_run_named_missing(swept):
    layout, manifest = swept
    data = bytearray(spool(layout).read_bytes())
    data[len(data) // 2] ^= 1
    spool(layout).write_bytes(data)
    verdict = verify(layout, manifest)
    assert not verdict.ok
    assert (verdict.corrupt, verdict.missing, verdict.bad_lines) == (1, 1, 1)


def test_a_second_result_of_a_run_is_recognised_and_harmless(swept):
    layout, manifest = swept
    result = next(line for line in lines_of(spool(layout)) if b'"kind":"result"' in line)
    layout.spool("late").write_bytes(result)
    verdict = verify(layout, manifest)
    assert (verdict.ok, verdict.superseded, verdict.duplicated) == (True, 1, 0)


def test_two_commits_of_one_run_are_no_proof(swept):
    layout, manifest = swept
    result = next(line for line in lines_of(spool(layout)) if manifest.run_ids[0].encode() in line)
    layout.spool("late").write_bytes(result)
    journal = Journal(layout, 2, manifest.run_ids)
    journal.adopt([FoundResult(0, "late.jsonl", 0, len(result), "done")], 1.0)
    journal.close("", 2.0)
    verdict = verify(layout, manifest)
    assert (verdict.ok, verdict.duplicated) == (False, 1)


def test_a_result_that_no_driver_has_committed_is_counted_apart(swept):
    layout, manifest = swept
    layout.journal(1).unlink()
    verdict = verify(layout, manifest)
    assert not verdict.ok
    assert (verdict.committed, verdict.uncommitted, verdict.missing) == (0, 20, 20)
    run(layout.root, manifest)
    assert verify(layout, manifest).ok, "resume commits them"


def test_tables_that_say_something_else_are_no_proof(swept):
    layout, manifest = swept
    table = pq.read_table(layout.table("runs"))
    pq.write_table(table.slice(0, 19), layout.table("runs"))
    verdict = verify(layout, manifest)
    assert (verdict.ok, verdict.tables_agree) == (False, False)


def test_a_lost_spool_is_missed_run_by_run(swept):
    layout, manifest = swept
    spool(layout).unlink()
    assert verify(layout, manifest).missing == 20


def test_a_table_whose_header_is_no_longer_text_is_named_as_damaged(swept):
    layout, manifest = swept
    runs = layout.table("runs")
    damaged = runs.read_bytes().replace(b'"tables": {"', b'"tables": {\x8a').replace(b"worker", b"worke\xf2")
    runs.write_bytes(damaged)
    verdict = verify(layout, manifest)
    assert not verdict.ok
    assert [entry.file for entry in verdict.damaged] == ["runs.parquet"]
