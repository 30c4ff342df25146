"""Nothing is read that is not what was written, and no crash between two steps makes a file look damaged."""

from __future__ import annotations

import json

import pytest

from orchestrator.store import digest_writer, digests
from orchestrator.store.digest_writer import Replacement, begin_digests, remove_recorded, write_recorded
from orchestrator.store.digests import damage_of, is_intact, read_digests, require_intact
from orchestrator.store.layout import Layout
from sweeps.spec.errors import DamagedError


@pytest.fixture
def layout(tmp_path, monkeypatch):
    monkeypatch.setattr(digests, "TRY_AGAIN_S", 0.0)
    made = Layout(tmp_path)
    made.create()
    begin_digests(made)
    write_recorded(made, made.table("runs"), b"old content")
    return made


def test_a_changed_byte_is_found_before_anything_is_read(layout):
    require_intact(layout, layout.table("runs"))
    layout.table("runs").write_bytes(b"old c0ntent")
    with pytest.raises(DamagedError, match=r"runs\.parquet: does not hold .* emsweep repair "):
        require_intact(layout, layout.table("runs"))


def test_a_file_that_is_gone_and_one_that_nobody_recorded_are_named(layout):
    layout.table("runs").unlink()
    layout.table("steps").write_bytes(b"?")
    assert damage_of(layout, layout.table("runs")) == "is missing"
    assert damage_of(layout, layout.table("steps")) == digests.NOT_RECORDED


class PowerCutError(Exception):
    pass


@pytest.mark.parametrize("num_steps", range(12))
def test_a_crash_at_any_step_of_a_replacement_leaves_old_or_new_and_both_intact(
    layout, monkeypatch, num_steps
):
    write_recorded(layout, layout.part("runs", 0), b"part")
    steps = 0

    def counted(function):
        def stepping(*args, **kwargs):
            nonlocal steps
            steps += 1
            if steps > num_steps:
                raise PowerCutError
            return function(*args, **kwargs)

        return stepping

    with monkeypatch.context() as patched:
        patched.setattr(digest_writer, "_write", counted(digest_writer._write))
        patched.setattr(digest_writer, "fsync_path", counted(digest_writer.fsync_path))
        patched.setattr("pathlib.Path.replace", counted(type(layout.root).replace))
        patched.setattr("pathlib.Path.unlink", counted(type(layout.root).unlink))
        try:
            with Replacement(layout) as change:
                change.writing(layout.table("runs")).write_bytes(b"new content")
                change.writing(layout.table("steps")).write_bytes(b"more")
                change.removing([layout.part("runs", 0)])
        except PowerCutError:
            pass
    for path in (layout.table("runs"), layout.table("steps"), layout.part("runs", 0)):
        recorded = read_digests(layout).get(digests.name_of(layout, path))
        if path.exists() or recorded is not None:
            assert damage_of(layout, path) == "", (path, steps)


def test_a_removed_file_is_not_missed(layout):
    remove_recorded(layout, [layout.table("runs")])
    assert "runs.parquet" not in read_digests(layout)


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"files": {}, "crc": "00000000"}']
)
def test_damaged_digests_are_said_and_not_taken_for_none(layout, text):
    layout.digests.write_bytes(text)
    with pytest.raises(DamagedError, match=r"digests\.json: is damaged; mend it with: emsweep repair"):
        require_intact(layout, layout.table("runs"))


def test_a_flipped_bit_of_the_digests_never_goes_unnoticed(layout):
    text = layout.digests.read_bytes()
    for position in range(len(text)):
        for bit in range(8):
            flipped = bytearray(text)
            flipped[position] ^= 1 << bit
            try:
                same = digests.parse_digests(bytes(flipped)) == digests.parse_digests(text)
            except (ValueError, KeyError, TypeError, AttributeError):
                same = True  # found
            assert same, (position, bit)


def test_missing_digests_are_damage_but_for_a_directory_of_format_1(layout):
    layout.digests.unlink()
    layout.config.write_text("format: 2\n")
    with pytest.raises(DamagedError, match=r"digests\.json: is missing"):
        require_intact(layout, layout.table("runs"))
    layout.config.write_text("format: 1\n")
    assert read_digests(layout) is None
    require_intact(layout, layout.table("runs"))
    begin_digests(layout)
    assert set(read_digests(layout)) == {"runs.parquet", "sweep.yaml"}


def test_tables_that_nothing_vouches_for_go_when_a_driver_begins(layout):
    layout.digests.write_text(json.dumps({"files": {}, "crc": "0"}))
    begin_digests(layout)
    assert not layout.table("runs").exists()


def test_of_a_journal_the_recorded_beginning_counts(layout):
    journal = layout.journal(1)
    journal.write_bytes(b"a\nb\n")
    digest_writer.record(layout, journal)
    journal.write_bytes(b"a\nb\nlate\n")
    assert is_intact(layout, journal)
    journal.write_bytes(b"a\n")
    assert damage_of(layout, journal) == "is cut off: 2 of 4 bytes are left"
