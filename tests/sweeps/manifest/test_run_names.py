import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.manifest.run_names import part, prefixes, short_number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-4, "1e-4"),
        (3e-5, "3e-5"),
        (0.5, "0.5"),
        (1.0, "1"),
        (0.001, "1e-3"),
        (1.5e-6, "1.5e-6"),
        (16.0, "16"),
    ],
)
def test_numbers_are_short(value, text):
    assert short_number(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_short_numbers_read_back_as_the_same_number(value):
    assert float(short_number(value)) == value


def test_two_axes_never_share_a_prefix():
    assert prefixes(["model", "optim.lr", "seed"]) == ["", "lr", "s"]
    assert prefixes(["sampling.top_p", "eval.top_p"]) == ["sampling.top_p", "eval.top_p"]


def test_a_long_key_is_set_off_from_a_word_but_not_from_a_number():
    assert part("decay_shape", "sqrt") == "decay_shape=sqrt"
    assert part("decay_fraction", 0.1) == "decay_fraction0.1"
