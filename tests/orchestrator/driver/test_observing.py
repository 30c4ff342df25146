"""What counts as a number of a trainer's."""

from __future__ import annotations

import pytest

from orchestrator.driver.observing import finite


@pytest.mark.parametrize(
    "value", [None, True, "high", [1.0], float("nan"), float("-inf"), 10**400, -(10**400)]
)
def test_what_is_no_number_that_a_float_holds_is_none(value):
    assert finite(value) is None


def test_whole_numbers_of_more_than_64_bits_count():
    assert finite(2**70) == 2.0**70
