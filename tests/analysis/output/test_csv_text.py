from __future__ import annotations

import io

import pandas as pd
import pytest

from analysis.output.csv_text import csv_text, neutral


@pytest.mark.parametrize("text", ["=1+1", "@SUM(A1)", "+cmd|' /C calc'!A0", "-2+3", "\t=1", "\r=1", "＝1"])
def test_a_text_that_a_spreadsheet_would_calculate_is_shown(text):
    assert neutral(text) == f"'{text}".replace("\r", "\n")
    frame = pd.DataFrame({"a": [text], "b": pd.Categorical([text]), text: [1.0]})
    back = pd.read_csv(io.StringIO(csv_text(frame)), keep_default_na=False)
    assert [str(v)[0] for v in (back.columns[2], back["a"][0], back["b"][0])] == ["'"] * 3


@pytest.mark.parametrize(
    "value", ["-1", "+0.5", "-1e-5", "-inf", "name", "", "a=b", "1-2", -3, 0.25, None, True]
)
def test_numbers_and_plain_texts_stay(value):
    assert neutral(value) == value


def test_a_frame_of_numbers_is_as_pandas_writes_it():
    frame = pd.DataFrame({"lr": [-1e-4, 2.0], "n": [1, None], "name": ["a", "b"]})
    assert csv_text(frame) == frame.to_csv(index=False)
