from __future__ import annotations

import pytest

from analysis.output.table import end_of, in_numbers, percent
from sweeps.spec.metrics import MetricInfo, change_of

SHARE = MetricInfo(direction="max", unit="share", range=(0.0, 1.0))
METRES = MetricInfo(direction="min", unit="m")


@pytest.mark.parametrize(
    ("value", "text"),
    [(-0.012, "-1.2"), (-0.0003, "-0.03"), (0.00004, "+0.004"), (0.0, "+0.0"), (-0.0, "+0.0")],
)
def test_an_end_that_would_round_to_zero_keeps_its_side(value, text):
    """ "lowers accuracy" beside [-1.2, +0.0] read as a contradiction: the end is -0.03."""
    assert end_of(SHARE, value) == text


def test_a_value_halfway_on_paper_is_rounded_one_way_however_it_was_summed_up():
    assert percent(0.8445) == percent(0.8444999999999999) == percent(0.8445000000000001) == "84.5"
    assert percent(-0.0375) == percent(-0.037500000000000006) == percent(-0.03749999999999998) == "-3.8"


def test_numbers_of_a_metric_that_is_no_share_are_printed_as_they_are():
    assert in_numbers(METRES, 0.5) == "0.5"
    assert in_numbers(METRES, 0.5, signed=True) == "+0.5"
    assert in_numbers(METRES, -1.1e-16, signed=True) == "+0"
    assert in_numbers(change_of(METRES), 2.0) == "+2"
    assert in_numbers(METRES, float("nan")) == "–"
