"""Checksummed lines: what is written is read back, and nothing else is."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.store.spool import (
    LineReader,
    SpoolHealth,
    SpoolWriter,
    decode_line,
    encode_line,
    read_spool,
)

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def written(folder, records):
    writer = SpoolWriter(folder / "w.jsonl")
    offsets = [writer.append(encode_line(header, result)) for header, result in records]
    writer.close()
    return folder / "w.jsonl", offsets


def lines(path, health=None, **options):
    return list(read_spool(path, health or SpoolHealth(), **options))


@given(
    header=st.dictionaries(st.text(min_size=1), plain, min_size=1, max_size=4),
    result=st.dictionaries(st.text(), plain),
)
@settings(max_examples=200, deadline=None)
def test_a_record_survives_the_round_trip(header, result):
    header = {k: v for k, v in header.items() if k not in ("crc", "result")} or {"kind": "x"}
    line = decode_line(encode_line(header, result))
    assert line.header == header
    assert line.result() == result


@pytest.mark.parametrize("result", [None, {}, {"a": {"b": 1, "result": 2}}])
def test_a_field_within_another_may_be_called_result(result):
    header = {"kind": "x", "metrics": {"loss": 1.0, "result": 0.5, "result2": {"a": 1, "result": None}}}
    line = decode_line(encode_line(header, result))
    assert line.header == header
    assert (None if line.body is None else line.result()) == result


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_any_single_changed_byte_is_noticed(data):
    line = encode_line({"kind": "result", "run_id": "a" * 32}, {"metrics": {"draw": 0.25}})
    position = data.draw(st.integers(0, len(line) - 1))
    changed = bytearray(line)
    changed[position] ^= data.draw(st.integers(1, 255))
    assert decode_line(bytes(changed)) is None


def test_numbers_that_json_cannot_hold_are_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode_line({"kind": "x"}, {"loss": float("nan")})


def test_lines_come_back_in_order_with_their_places(tmp_path):
    path, offsets = written(tmp_path, [({"n": i}, {"v": "x" * i}) for i in range(50)])
    spooled = lines(path)
    assert [line.header["n"] for line in spooled] == list(range(50))
    assert [line.offset for line in spooled] == offsets
    reader = LineReader(tmp_path)
    assert all(reader.read(path.name, x.offset, x.length) == x for x in spooled)
    reader.close()


def test_a_corrupt_line_is_skipped_and_noted_and_the_next_one_read(tmp_path):
    path, offsets = written(tmp_path, [({"n": i}, None) for i in range(3)])
    data = bytearray(path.read_bytes())
    data[offsets[1] + 20] ^= 4
    path.write_bytes(bytes(data))
    health = SpoolHealth()
    assert [line.header["n"] for line in lines(path, health)] == [0, 2]
    assert (health.num_valid, health.num_corrupt, health.num_torn) == (2, 1, 0)
    assert health.corrupt_at == [("w.jsonl", offsets[1])]


@pytest.mark.parametrize("live", [False, True])
def test_a_torn_tail_is_torn_only_once_its_writer_is_gone(tmp_path, live):
    path, offsets = written(tmp_path, [({"n": i}, None) for i in range(3)])
    os.truncate(path, offsets[2] + 7)
    health = SpoolHealth()
    assert len(lines(path, health, live=live)) == 2
    assert health.num_torn == (0 if live else 1)


def test_reading_goes_on_where_it_stopped(tmp_path):
    path, offsets = written(tmp_path, [({"n": i}, None) for i in range(5)])
    assert [line.header["n"] for line in lines(path, start=offsets[3])] == [3, 4]


def test_lines_longer_than_one_read_are_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("orchestrator.store.spool.READ_BYTES", 64)
    path, _ = written(tmp_path, [({"n": i}, {"text": "y" * 500}) for i in range(4)])
    assert [line.header["n"] for line in lines(path)] == [0, 1, 2, 3]


def test_a_second_writer_of_one_file_is_refused(tmp_path):
    written(tmp_path, [])
    with pytest.raises(FileExistsError):
        SpoolWriter(tmp_path / "w.jsonl")


def test_a_line_read_at_a_wrong_place_is_none(tmp_path):
    path, offsets = written(tmp_path, [({"n": 1}, None), ({"n": 2}, None)])
    reader = LineReader(tmp_path)
    assert reader.read(path.name, offsets[1] - 1, 30) is None
    assert reader.read("gone.jsonl", 0, 30) is None
    reader.close()
