"""An interval ends where the evidence against a mean reaches its threshold."""

from __future__ import annotations

import numpy as np

from sweeps.deciding.evidence import NormalEvidence
from sweeps.deciding.intervals import anytime_intervals


def test_the_ends_are_where_either_side_reaches_its_threshold():
    draw = np.random.default_rng(0)
    values, floors = draw.normal(0.3, 0.1, (6, 9)), np.full((6, 9), 0.002)
    low, high = anytime_intervals(NormalEvidence, values, floors, 0.05)
    width = high - low
    for shift, side in ((low, "above_E"), (high, "below_E")):
        for nudge in (-1e-6, 1e-6):
            evidence = NormalEvidence(shift + nudge * width)
            for position in range(9):
                evidence.update(np.arange(6), values[:, position], floors[:, position])
            outside = (nudge < 0) == (side == "above_E")
            assert ((getattr(evidence, side) >= np.log(40)) == outside).all()
    assert (low < values.mean(axis=1)).all()
    assert (values.mean(axis=1) < high).all()


def test_a_member_without_seeds_has_the_widest_interval():
    values = np.array([[np.nan, np.nan], [0.4, np.nan]])
    low, high = anytime_intervals(NormalEvidence, values, np.zeros((2, 2)), 0.05, (0.0, 1.0))
    assert low.tolist() == [0, 0]
    assert high.tolist() == [1, 1]


def test_intervals_hold_at_every_look():
    values = np.random.default_rng(3).normal(0.0, 1.0, (400, 8))
    held = np.ones(400, dtype=bool)
    for looks in range(2, 9):
        low, high = anytime_intervals(NormalEvidence, values[:, :looks], np.full((400, looks), 0.5), 0.2)
        held &= (low <= 0) & (high >= 0)
    assert held.mean() >= 0.8
