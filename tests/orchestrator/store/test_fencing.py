"""What a replaced driver and its workers append is void for every reader."""

from __future__ import annotations

import time

from orchestrator.inspect.verify import verify
from orchestrator.store.fencing import fences
from orchestrator.store.history import history_of
from orchestrator.store.index_reader import read_index
from orchestrator.store.journal import begin_epoch
from orchestrator.store.layout import Layout
from orchestrator.store.outcomes import FoundResult
from orchestrator.store.spool import SpoolHealth, read_spool
from tests.orchestrator.sweeping import noop_manifest, run

MANIFEST = noop_manifest(4)


def test_a_driver_that_goes_on_beside_a_second_one_commits_nothing(tmp_path):
    run(tmp_path / "a", MANIFEST)
    layout = Layout(tmp_path / "sweep")
    layout.create()
    [results] = (tmp_path / "a" / "spool").glob("e*.jsonl")
    first = begin_epoch(layout, MANIFEST.digest, read_index(layout, MANIFEST.run_ids))
    second = begin_epoch(layout, MANIFEST.digest, read_index(layout, MANIFEST.run_ids))
    (layout.spools / "e1-w1.jsonl").write_bytes(results.read_bytes())  # a worker of the first goes on
    lines = [
        x for x in read_spool(layout.spools / "e1-w1.jsonl", SpoolHealth()) if x.header["kind"] == "result"
    ]
    found = [
        FoundResult(MANIFEST.index_of[x.header["run_id"]], "e1-w1.jsonl", x.offset, x.length, "done")
        for x in lines
        if x.header["kind"] == "result"
    ]
    first.adopt(found, time.time())
    first.settle([3], "cancelled", time.time())
    first.sync()
    reading = read_index(layout, MANIFEST.run_ids)
    assert reading.book.counts()["pending"] == 4
    assert reading.health.num_fenced >= len(found) + 2
    assert history_of(layout, MANIFEST.run_ids[3]).outcome == "pending"
    (layout.spools / "e2-w1.jsonl").write_bytes(results.read_bytes())  # one of the second does as well
    second.adopt([f._replace(spool="e2-w1.jsonl") for f in found], time.time())
    second.close("", time.time())
    verdict = verify(layout, MANIFEST)
    assert (verdict.committed, verdict.duplicated, verdict.superseded) == (4, 0, 0)
    assert verdict.fenced == reading.health.num_fenced
    run(layout.root, MANIFEST)
    assert verify(layout, MANIFEST).ok


def test_an_epoch_fences_what_came_before_it_at_the_bytes_that_it_had_read(tmp_path):
    run(tmp_path, MANIFEST)
    layout = Layout(tmp_path)
    [spool] = layout.spools.glob("e1-*.jsonl")
    before = spool.stat().st_size
    assert fences(layout) == {}
    begin_epoch(layout, MANIFEST.digest, read_index(layout, MANIFEST.run_ids)).close("", time.time())
    assert fences(layout) == {
        "driver-00001.jsonl": layout.journal(1).stat().st_size,
        spool.name: before,
    }
    with spool.open("ab") as late:
        late.write(spool.read_bytes())
    reading = read_index(layout, MANIFEST.run_ids)
    assert reading.num_superseded == 0
    assert reading.health.num_fenced >= 4
