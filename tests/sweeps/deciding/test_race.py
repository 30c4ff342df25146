"""A race's verdicts are those of the observations, in whatever order they came."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.deciding.race import Race, RaceRule, Verdict
from sweeps.spec.errors import SpecError


def observations(
    num_members: int, num_seeds: int, seed: int
) -> list[tuple[int, int, float | None, np.ndarray]]:
    """Differences whose means lie on both sides of zero; one seed in twelve has none."""
    draw = np.random.default_rng(seed)
    means = draw.normal(0, 0.1, num_members)
    return [
        (
            member,
            position,
            None if draw.random() < 1 / 12 else float(means[member] + draw.normal(0, 0.02)),
            draw.normal(means[member], 0.1, 50),
        )
        for member in range(num_members)
        for position in range(num_seeds)
    ]


def verdicts_of(
    race: Race, rows: list[tuple[int, int, float | None, np.ndarray]], every: int
) -> list[Verdict]:
    """What the race decides of these rows, asked after each ``every`` of them."""
    verdicts = []
    for k, row in enumerate(rows):
        race.add(*row)
        if k % every == 0:
            verdicts += race.decide()
    return verdicts + race.decide()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.randoms(use_true_random=False), st.integers(1, 40))
def test_the_order_of_arrival_changes_no_verdict(seed, random, every):
    rows = observations(12, 10, seed)
    rule = RaceRule(question="above_base", rope=0.01)
    straight = verdicts_of(Race(12, rule), rows, 10**9)
    shuffled = random.sample(rows, len(rows))
    assert verdicts_of(Race(12, rule), shuffled, every) == straight
    assert straight


def test_two_equal_values_are_no_proof_where_their_items_vary():
    race, bare = Race(1, RaceRule()), Race(1, RaceRule())
    for position in range(5):
        race.add(0, position, 0.1, np.repeat([0.0, 0.0, 0.0, 0.0, 0.5], 2))
        bare.add(0, position, 0.1)
    assert race.decide() == []
    assert [verdict.num_seeds for verdict in bare.decide()] == [3]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_no_number_is_refused(value):
    with pytest.raises(SpecError, match="has to be stated"):
        Race(1, RaceRule()).add(0, 0, value)
