"""The best member is beaten no more often than it may be, also where all are equal."""

from __future__ import annotations

import numpy as np

from sweeps.deciding.best import Best
from sweeps.deciding.rules import BEATEN, RaceRule


def test_of_equal_members_each_is_beaten_with_at_most_the_error_rate():
    draw = np.random.default_rng(6)
    beaten = np.zeros(5)
    for _ in range(250):
        state = Best(5, RaceRule(question="best", alpha=0.2))
        for _ in range(16):
            if not state.open.any():
                break
            here = np.flatnonzero(state.open)
            values = draw.normal() + draw.normal(size=5)
            for claim in state.look(here, values[here], np.diag(np.full(len(here), 0.3))):
                beaten[claim.member] += claim.side == BEATEN
    assert beaten.sum() > 0
    assert (beaten / 250 <= 0.2).all()


def test_the_last_contender_costs_no_more_among_many_than_among_few():
    draw = np.random.default_rng(3)
    values_KP = np.r_[0.62, 0.60, np.full(60, 0.1)][:, None] + draw.normal(0, 0.004, (62, 16))
    seeds = []
    for kept in (2, 62):
        state, used = Best(kept, RaceRule(question="best")), 0
        while state.open.any() and used < 16:
            here = np.flatnonzero(state.open)
            state.look(here, values_KP[here, used], None)
            used += 1
        seeds.append(used)
    assert seeds[1] <= seeds[0] + 3
    assert seeds[1] < 10
