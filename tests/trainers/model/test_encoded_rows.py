"""Rows encoded once are those that would be encoded again."""

from __future__ import annotations

import dataclasses

from sweeps.manifest.given_rows import Given
from sweeps.manifest.training_rows import TrainingRow
from sweeps.spec import DataSpec
from tests.trainers.worlds import tiny_spec
from trainers.model.base_model import load_base
from trainers.model.encoded_rows import EncodedRows
from trainers.model.target_encoding import encode_given


def row_of(prompt: str, completion: str) -> TrainingRow:
    given = Given(completions=(completion,)).to_json()
    return TrainingRow(prompt=prompt, system=None, answer=None, difficulty=None, given_json=given)


ROWS = [row_of(f"{n}+{n}=", f"{2 * n:03}") for n in range(10, 30)]


def test_rows_are_the_same_known_or_not_wherever_they_stand_and_in_each_form():
    base, kept = load_base(tiny_spec().model), EncodedRows()
    forms = [DataSpec(path="x"), DataSpec(path="x", format="plain", template="{problem} ")]
    for rows in (ROWS[:4], ROWS[3::-1], [ROWS[2], *ROWS[10:]]):
        for data in forms:
            assert kept.of(rows, data, base) == encode_given(rows, data, base)


def test_a_known_row_is_not_encoded_again_until_newer_ones_have_taken_its_place(monkeypatch):
    from trainers.model import encoded_rows

    encoded: list[str] = []

    def counted(rows, data, base):
        encoded.extend(row.prompt for row in rows)
        return encode_given(rows, data, base)

    monkeypatch.setattr(encoded_rows, "encode_given", counted)
    base, data = load_base(tiny_spec().model), DataSpec(path="x")
    tokens = sum(len(s.ids) + len(s.counted) for s in encode_given(ROWS[:1], data, base))
    kept = EncodedRows(max_tokens=2 * tokens)
    for number in (0, 1, 0, 2, 0, 1):
        kept.of([dataclasses.replace(ROWS[number])], data, base)
    assert encoded == [ROWS[n].prompt for n in (0, 1, 2, 1)]
