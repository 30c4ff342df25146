"""What a driver's journal begins with: who it is, what it has read, and the frozen files."""

from __future__ import annotations

import zlib

from orchestrator.store import frozen
from orchestrator.store.frozen import FROZEN, frozen_file
from orchestrator.store.layout import FORMAT_VERSION, Layout
from orchestrator.store.records import EpochRecord, record_of
from orchestrator.store.spool import SpoolHealth, read_spool
from tests.orchestrator.sweeping import noop_manifest, run


def first_record(path) -> EpochRecord:
    return record_of(next(read_spool(path, SpoolHealth())).header)


def test_an_epoch_says_how_much_of_every_older_file_it_has_read(tmp_path):
    layout = Layout(tmp_path)
    run(tmp_path, noop_manifest(3))
    older = {path.name: path.stat().st_size for path in layout.spools.iterdir()}
    with (layout.spools / "e1-w1.jsonl").open("ab") as file:
        file.write(b'{"crc":"torn')
    run(tmp_path, noop_manifest(5))
    begun = first_record(layout.journal(2))
    assert (begun.epoch, begun.format) == (2, FORMAT_VERSION)
    assert begun.read == older, "a line that is not whole has not been read"
    assert first_record(layout.journal(1)).read == {}


def test_the_journals_hold_the_frozen_files_as_they_are_now(tmp_path):
    run(tmp_path, noop_manifest(3))
    first = {name: (tmp_path / name).read_bytes() for name in FROZEN}
    assert {name: frozen_file(Layout(tmp_path), name) for name in FROZEN} == first
    run(tmp_path, noop_manifest(5))
    assert {n: frozen_file(Layout(tmp_path), n) for n in FROZEN} == {
        n: (tmp_path / n).read_bytes() for n in FROZEN
    }
    assert frozen_file(Layout(tmp_path), "manifest.parquet") != first["manifest.parquet"]


def test_a_file_is_written_to_the_journals_once(tmp_path):
    manifest = noop_manifest(5)
    run(tmp_path, manifest, until=0.0)
    run(tmp_path, manifest)
    kinds = [line.header["kind"] for line in read_spool(Layout(tmp_path).journal(2), SpoolHealth())]
    assert "manifest" not in kinds


def test_a_large_file_travels_in_parts_and_a_damaged_part_gives_none(tmp_path, monkeypatch):
    monkeypatch.setattr(frozen, "PART_BYTES", 500)
    layout = Layout(tmp_path)
    run(tmp_path, noop_manifest(3))
    assert frozen_file(layout, "manifest.parquet") == layout.manifest.read_bytes()
    lines = layout.journal(1).read_bytes().splitlines(keepends=True)
    parts = [i for i, line in enumerate(lines) if b'"name":"manifest.parquet"' in line]
    assert len(parts) > 2
    lines[parts[1]] = lines[parts[1]].replace(b'"kind"', b'"kinb"')
    layout.journal(1).write_bytes(b"".join(lines))
    assert frozen_file(layout, "manifest.parquet") is None
    assert zlib.crc32(frozen_file(layout, "sweep.yaml")) == zlib.crc32(layout.config.read_bytes())
