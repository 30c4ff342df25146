"""Rate and time left."""

from __future__ import annotations

import pytest

from orchestrator.driver.eta import WINDOW_S, Rate


def fed(*samples: tuple[float, int]) -> Rate:
    rate = Rate()
    for now_s, num in samples:
        rate.update(now_s, num)
    return rate


def test_before_the_first_result_nothing_is_claimed():
    rate = fed((0.0, 0), (5.0, 0))
    assert rate.runs_per_s == 0
    assert rate.eta_s(10) is None


def test_a_steady_rate_is_found_and_the_estimate_lies_in_its_interval():
    rate = fed(*((float(t), 4 * t) for t in range(20)))
    assert rate.runs_per_s == pytest.approx(4)
    middle, low, high = rate.eta_s(400)
    assert middle == pytest.approx(100)
    assert low < middle < high


def test_a_change_is_followed_within_the_window():
    rate = fed(*((float(t), t) for t in range(100)))
    for t in range(1, 3 * int(WINDOW_S)):
        rate.update(100.0 + t, 99 + 10 * t)
    assert rate.runs_per_s == pytest.approx(10, rel=0.05)


def test_runs_far_longer_than_the_window_still_have_a_rate_between_their_ends():
    rate = fed((0.0, 0))
    for k in range(1, 8):
        for t in range(600):
            rate.update(600.0 * (k - 1) + t, k - 1)
        rate.update(600.0 * k, k)
        assert rate.runs_per_s > 0
    assert rate.runs_per_s == pytest.approx(1 / 600, rel=0.3)


def test_a_sweep_that_stalls_slows_down():
    rate = fed(*((float(t), t) for t in range(40)))
    before = rate.runs_per_s
    rate.update(400.0, 39)
    assert rate.runs_per_s < before / 5
