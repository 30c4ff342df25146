from __future__ import annotations

import pytest

from sweeps.spec.printable import printable


@pytest.mark.parametrize(
    "text",
    ["\x1b]0;owned\x07", "\x1b[2J", "\x9b31m", "a\rb", "a\x08b", "\x00", "\x7f", "\u202egnp.exe", "\u2066x"],
)
def test_nothing_that_steers_a_terminal_is_left(text):
    shown = printable(text)
    assert shown.isprintable()
    assert shown != text


def test_words_lines_and_other_alphabets_stay():
    text = "Ärger · 10 %\tμ=0.5\n漢字 → ok"
    assert printable(text) == text
