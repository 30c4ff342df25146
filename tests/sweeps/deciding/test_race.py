"""A race's verdicts are those of the observations, in whatever order they came."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.deciding.race import Race, RaceRule, Verdict
from sweeps.spec.errors import SpecError

Row = tuple[int, int, float | None, np.ndarray | None]


def observations(num_members: int, num_seeds: int, seed: int) -> list[Row]:
    """Values whose means lie on both sides of zero; one seed in twelve has none."""
    draw = np.random.default_rng(seed)
    means = draw.normal(0, 0.1, num_members)
    rows: list[Row] = []
    for member in range(num_members):
        for position in range(num_seeds):
            items = means[member] + draw.normal(0, 0.1, 25)
            value = None if draw.random() < 1 / 12 else float(items.mean())
            rows.append((member, position, value, items))
    return rows


def verdicts_of(race: Race, rows: list[Row], every: int = 1) -> list[Verdict]:
    """What the race decides of these rows, asked after each ``every`` of them."""
    verdicts = []
    for k, row in enumerate(rows):
        race.add(*row)
        if k % every == 0:
            verdicts += race.decide()
    return verdicts + race.decide()


def raced(rule: RaceRule, values_MP: np.ndarray) -> list[Verdict]:
    rows = [(m, p, float(v), None) for m, row in enumerate(values_MP) for p, v in enumerate(row)]
    return verdicts_of(Race(len(values_MP), rule), rows, 10**9)


RULES = [
    RaceRule(rope=0.02),
    RaceRule(error="fwer"),
    RaceRule(evidence="bounded", bounds=(-1.0, 1.0), alpha=0.4),
    RaceRule(question="best"),
    RaceRule(question="best", direction="min", rope=0.05),
]


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(RULES), st.integers(0, 10**6), st.randoms(use_true_random=False), st.integers(1, 30))
def test_the_order_of_arrival_changes_no_verdict(rule, seed, random, every):
    rows = observations(5, 9, seed)
    straight = verdicts_of(Race(5, rule), rows, 10**9)
    assert verdicts_of(Race(5, rule), random.sample(rows, len(rows)), every) == straight


def test_every_question_is_answered():
    for rule in RULES:
        rows = observations(5, 40, 3)
        assert verdicts_of(Race(5, rule), rows, 10**9), rule


def test_a_killed_race_goes_on_from_its_observations():
    rows = observations(6, 9, 11)
    race, again = Race(6, RaceRule()), Race(6, RaceRule())
    first = verdicts_of(race, rows[:30])
    whole = first + verdicts_of(race, rows[30:])
    assert verdicts_of(again, rows[:30] + rows[30:][::-1] + rows[:5], 7) == whole
    assert whole


def test_sides_are_those_of_planted_means_and_agree_with_their_intervals():
    draw = np.random.default_rng(4)
    means = np.array([0.3, -0.3, 0.0, 0.0])
    values = means[:, None] + draw.normal(0, 0.02, (4, 16))
    verdicts = {v.member: v for v in raced(RaceRule(rope=0.1), values)}
    assert [verdicts[k].side for k in range(4)] == ["above", "below", "within", "within"]
    assert verdicts[0].low > 0.1
    assert verdicts[1].high < -0.1
    assert all(-0.1 < verdicts[k].low < means[k] < verdicts[k].high < 0.1 for k in (2, 3))
    assert all(v.num_seeds < 10 and v.log_evidence > np.log(40) for v in verdicts.values())


@pytest.mark.parametrize(("direction", "winner"), [("max", 3), ("min", 0)])
def test_the_best_of_planted_means_is_the_last_one_left(direction, winner):
    draw = np.random.default_rng(7)
    values = np.array([0.1, 0.3, 0.35, 0.6])[:, None] + draw.normal(0, 0.03, (4, 16))
    verdicts = raced(RaceRule(question="best", direction=direction), values)
    assert {v.member: v.side for v in verdicts} == {k: "best" if k == winner else "beaten" for k in range(4)}


def test_cells_within_the_region_of_equivalence_end_as_tied():
    draw = np.random.default_rng(8)
    values = np.array([0.1, 0.6, 0.6])[:, None] + draw.normal(0, 0.01, (3, 24))
    verdicts = raced(RaceRule(question="best", rope=0.1), values)
    assert [(v.member, v.side) for v in verdicts] == [(0, "beaten"), (1, "tied"), (2, "tied")]


def test_shared_luck_of_seeds_and_items_cancels_between_cells():
    draw = np.random.default_rng(9)
    luck, hard = draw.normal(0, 0.2, 16), draw.normal(0, 0.5, 40)
    race = Race(2, RaceRule(question="best"))
    for position in range(16):
        for member, mean in enumerate((0.50, 0.55)):
            items = mean + luck[position] + hard + draw.normal(0, 0.05, 40)
            race.add(member, position, float(items.mean()), items)
    assert [(v.member, v.side) for v in race.decide()] == [(0, "beaten"), (1, "best")]


def test_two_equal_accuracies_are_no_proof():
    race = Race(1, RaceRule())
    gained = np.repeat([0.0, 0.0, 0.0, 0.0, 1.0], 10)
    for position in range(2):
        race.add(0, position, float(gained.mean()), gained)
    assert race.decide() == []
    low, high = race.interval(0)
    assert low < 0 < 0.2 < high
    assert race.level == 0.95


def test_without_any_difference_nothing_is_decided():
    assert raced(RaceRule(), np.zeros((3, 30))) == []
    equal = np.tile(np.random.default_rng(1).normal(0.5, 0.1, 12), (2, 1))
    assert raced(RaceRule(question="best"), equal) == []


def test_a_round_waits_for_every_member_still_in_and_for_no_other():
    race = Race(2, RaceRule())
    for position in range(12):
        race.add(0, position, 0.5 + 0.01 * (position % 3))
    assert race.decide() == []
    assert race.num_looks == 0
    for position in range(12):
        race.add(1, position, None)
    verdicts = race.decide()
    assert [(v.member, v.side) for v in verdicts] == [(0, "above")]
    assert verdicts[0].num_seeds < 12
    assert race.open_members() == [1]
    assert not race.is_open(0)
    assert race.interval(1) == (-np.inf, np.inf)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_no_number_is_refused(value):
    with pytest.raises(SpecError, match="must be a finite number, or None"):
        Race(1, RaceRule()).add(0, 0, value)
    with pytest.raises(SpecError, match="must all be finite"):
        Race(1, RaceRule()).add(0, 0, 0.5, np.array([0.5, value]))


def test_a_value_beyond_the_bounds_and_a_second_value_are_refused():
    race = Race(1, RaceRule(bounds=(0.0, 1.0)))
    with pytest.raises(SpecError, match="must lie within search"):
        race.add(0, 0, 1.5)
    race.add(0, 0, 0.5)
    race.add(0, 0, 0.5)
    with pytest.raises(ValueError, match=r"has 0\.5, not 0\.6"):
        race.add(0, 0, 0.6)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"question": "bset"}, 'did you mean "best"'),
        ({"rope": -1.0}, "0 or more"),
        ({"rope": float("nan")}, "0 or more"),
        ({"alpha": 1.0}, "between 0 and 1"),
        ({"error": "fdrr"}, 'did you mean "fdr"'),
        ({"min_seeds": 1}, "2 or more"),
        ({"evidence": "bounded"}, "least and the largest"),
        ({"bounds": (1.0, 0.0)}, "the smaller first"),
    ],
)
def test_a_rule_that_no_race_can_have_is_refused(words, said):
    with pytest.raises(SpecError, match=said):
        RaceRule(**words)


def test_the_best_needs_two_members_and_keeps_pairs_of_no_more_than_it_can():
    for num_members, said in ((1, "two members"), (2001, "2,000 is the most")):
        with pytest.raises(SpecError, match=said):
            Race(num_members, RaceRule(question="best"))
