"""A flipped bit is turned back wherever it lies; what cannot be mended keeps its length."""

from __future__ import annotations

import random

import pytest

from orchestrator.store.mending import replaced, stretches
from orchestrator.store.spool import SpoolHealth, decode_line, encode_line, read_spool

LINES = [
    encode_line({"kind": "settle", "at": 1.5, "runs": [f"{i:032x}"], "outcome": "cancelled"}, body)
    for i, body in enumerate([None, {"metrics": {"loss": 0.25}}, None])
]
DATA = b"".join(LINES)


def test_every_single_flipped_bit_of_a_file_is_turned_back():
    for position in range(len(DATA)):
        for bit in range(8):
            damaged = bytearray(DATA)
            damaged[position] ^= 1 << bit
            changes = stretches(bytes(damaged))
            assert all(change.mended for change in changes)
            assert replaced(bytes(damaged), changes) == DATA, (position, bit)


@pytest.mark.parametrize("num_bits", [2, 3, 9])
def test_a_line_with_several_flipped_bits_is_never_mended_into_another(tmp_path, num_bits):
    dice = random.Random(num_bits)
    for _ in range(200):
        damaged = bytearray(DATA)
        for position in dice.sample(range(len(LINES[0]), len(LINES[0]) + len(LINES[1]) - 1), num_bits):
            damaged[position] ^= 1 << dice.randrange(8)
        changes = stretches(bytes(damaged))
        new = replaced(bytes(damaged), changes)
        assert len(new) == len(DATA)
        assert new.startswith(LINES[0])
        assert new.endswith(LINES[2])
        if not all(change.mended for change in changes):
            (tmp_path / "spool.jsonl").write_bytes(new)
            health = SpoolHealth()
            kinds = [line.header["kind"].strip() for line in read_spool(tmp_path / "spool.jsonl", health)]
            assert health.num_corrupt == 0
            assert set(kinds) <= {"settle", "unknown", ""}


def test_a_torn_last_line_is_left_to_its_writer():
    assert not stretches(DATA[:-7])
    assert not stretches(b"")


def test_rubbish_of_any_length_leaves_the_lines_around_it_readable():
    for length in range(1, 120):
        data = LINES[0] + b"x" * (length - 1) + b"\n" + LINES[2]
        [change] = stretches(data)
        assert change.found == b"x" * (length - 1) + b"\n"
        assert len(change.put) == length
        assert length < 30 or decode_line(change.put) is not None
