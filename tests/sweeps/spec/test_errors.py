"""Messages stay short enough to be read, whatever stands in them."""

from __future__ import annotations

import pickle

import pytest

from sweeps.spec import SpecError, coerce_key
from sweeps.spec.errors import LONG, LONGEST, SHOWN, UserError, bounded, choice, cut, nearest, shown


@pytest.mark.parametrize(
    "value",
    [
        "x" * 5000,
        ["a b"] * 5000,
        {"k": "v " * 5000},
        'it\'s "quoted" ' * 999,
        "\n" * 999,
        10**4000,
        "\ud800" * 99,
    ],
)
def test_a_value_is_shown_by_its_ends_and_its_length(value):
    assert len(shown(value)) < LONG
    assert "characters]" in shown(value)
    assert "\n" not in shown(value)


def test_a_short_value_is_shown_whole():
    assert shown("it's") == '"it\'s"'
    assert cut("x" * SHOWN) == "x" * SHOWN


@pytest.mark.parametrize(
    "message",
    [
        f"key={'x' * 9999!r}: must be a number; set it",
        f"key={['one', 'two'] * 5000!r}: must be a number; set it",
        f'key="{"a b " * 5000}": must be a number; set it',
        f"key={'/very/long' * 999}: must be a number; set it",
    ],
)
def test_a_message_keeps_its_key_its_rule_and_its_fix(message):
    said = str(UserError(message))
    assert len(said) <= LONGEST
    assert said.startswith("key=")
    assert said.endswith(": must be a number; set it")


def test_words_between_apostrophes_are_no_value():
    text = (
        f"the model's folder {'holds a file that nobody has read yet and ' * 12}the tokenizer's own; copy it"
    )
    assert bounded(text) == text


def test_an_error_that_travels_between_processes_keeps_its_message():
    error = SpecError("key=" + "x" * 999)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize(
    ("key", "value"),
    [("seed", "x" * 9999), ("optim.lr", "1, " * 9999), ("eval.steps", "9" * 9999), ("x" * 9999, 1)],
)
def test_a_long_value_of_a_key_is_refused_in_a_short_line(key, value):
    with pytest.raises(SpecError) as caught:
        coerce_key(key, value)
    assert len(str(caught.value)) < 700
    with pytest.raises(SpecError, match="choose one of") as caught:
        choice("group", str(value) * 999, ["one", "two"])
    assert len(str(caught.value)) < 700


def test_the_nearest_names_are_spelt_as_they_are_typed():
    assert nearest("rate0.1", ["rate0.1·s0"]) == ' (did you mean "rate0.1·s0"?)'
