"""Whatever foreign code gives back or raises, no worker or driver is lost and the tables are whole."""

from __future__ import annotations

from tests.benchmarks.frontdoor import odd_results


def test_every_odd_result_is_a_row_or_the_runs_own_error(tmp_path):
    found = odd_results(tmp_path)
    assert found.pop("kinds") >= 40
    assert found == {"lost": 0, "wrong": [], "complete": True}
