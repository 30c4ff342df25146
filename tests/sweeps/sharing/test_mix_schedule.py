"""Turns of a mix: every set has its share at any moment, and is walked over as it is by itself."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.sharing import mix_schedule
from sweeps.sharing.mix_schedule import MixSchedule, Turns
from sweeps.sharing.row_schedule import RowSchedule
from sweeps.spec import DataSpec
from sweeps.spec.mix import parts_of, whole_weights

WEIGHTS = st.lists(st.integers(1, 10**6), min_size=1, max_size=9).map(
    lambda weights: tuple(whole_weights([Fraction(weight) for weight in weights]))
)


def mix_of(
    rows: dict[str, int], weights: dict[str, float], per_step: int, order: str = "shuffle"
) -> DataSpec:
    mix = {
        name: {"path": name, "digest": name, "num_rows": num, "order": order, "weight": weights[name]}
        for name, num in rows.items()
    }
    return DataSpec(mix=mix, digest="d", num_rows=sum(rows.values()), prompts_per_step=per_step)


@settings(max_examples=60, deadline=None)
@given(weights=WEIGHTS, length=st.integers(1, 3000))
def test_no_set_is_ever_a_prompt_ahead_of_its_share_or_behind_it(weights, length):
    turns, before = Turns(weights).between(0, length)
    assert before == [0] * len(weights)
    had = np.cumsum(np.eye(len(weights), dtype=np.int64)[turns], axis=0)
    exact = np.arange(1, length + 1)[:, None] * np.array(weights, dtype=object)
    assert (abs(had * sum(weights) - exact) < sum(weights)).all()


@settings(max_examples=60, deadline=None)
@given(
    weights=WEIGHTS,
    start=st.integers(0, 20_000),
    num=st.integers(1, 200),
    chunk=st.sampled_from([3, 64, 4096]),
)
def test_turns_are_the_same_wherever_they_are_asked_for_and_whatever_was_asked_before(
    weights, start, num, chunk
):
    whole, _ = Turns(weights).between(0, start + num)
    known, mix_schedule.CHUNK = mix_schedule.CHUNK, chunk
    try:
        turns, before = Turns(weights).between(start, num)
    finally:
        mix_schedule.CHUNK = known
    assert turns == whole[start:]
    assert before == np.bincount(whole[:start], minlength=len(weights)).tolist()


def test_a_far_turn_follows_from_the_cycle():
    turns, before = Turns((3, 1)).between(4 * 10**12 + 1, 4)
    assert (before, turns) == ([3 * 10**12 + 1, 10**12], Turns((3, 1)).between(1, 4)[0])


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.integers(3, 30), min_size=1, max_size=5),
    weights=st.lists(st.sampled_from([0.1, 0.25, 1, 2, 3.5]), min_size=5, max_size=5),
    per_step=st.integers(1, 3),
    seed=st.integers(0, 2**63 - 1),
    order=st.sampled_from(["shuffle", "file"]),
)
def test_each_set_goes_through_its_rows_as_it_does_alone(rows, weights, per_step, seed, order):
    """So no row comes twice before its set's epoch ends."""
    sizes = {f"s{k}": num for k, num in enumerate(rows)}
    data = mix_of(sizes, dict(zip(sizes, weights, strict=False)), per_step, order)
    schedule = MixSchedule(data, seed)
    walked = [row for number in range(120) for row in schedule.batch(number)]
    for part in parts_of(data):
        own = [row - part.first_row for row in walked if 0 <= row - part.first_row < part.data.num_rows]
        assert own == RowSchedule(part.data, seed).rows(0, len(own))
        first = own[: part.data.num_rows]
        assert len(set(first)) == len(first)


@settings(max_examples=40, deadline=None)
@given(number=st.integers(0, 3000), seed=st.integers(0, 5))
def test_a_step_of_a_mix_needs_none_before_it(number, seed):
    data = mix_of({"a": 7, "b": 30}, {"a": 1, "b": 2.5}, 3)
    walked = MixSchedule(data, seed)
    for before in range(max(0, number - 5), number):
        walked.batch(before)
    assert MixSchedule(data, seed).batch(number) == walked.batch(number)


def test_a_batch_of_a_mix_never_changes_between_versions():
    """Results on disk were trained in this order."""
    schedule = MixSchedule(mix_of({"a": 4, "b": 6}, {"a": 1, "b": 2}, 4), 0)
    assert [schedule.batch(number) for number in (0, 1, 9)] == [[7, 3, 6, 4], [2, 5, 9, 0], [8, 1, 5, 9]]
    assert schedule.prompts_of_sets(schedule.batch(0)) == {"a": 1, "b": 3}


def test_difficulty_orders_the_sets_whose_order_reads_it():
    mix = {
        "a": {"path": "a", "digest": "a", "num_rows": 3, "order": "file"},
        "b": {"path": "b", "digest": "b", "num_rows": 3, "order": "hard_to_easy", "difficulty_field": "d"},
    }
    data = DataSpec(mix=mix, digest="d", num_rows=6, prompts_per_step=6)
    difficulty = np.array([np.nan, np.nan, np.nan, 2.0, 3.0, 1.0])
    batch = MixSchedule(data, 0, difficulty).batch(0)
    assert [row for row in batch if row < 3] == [0, 1, 2]
    assert [row for row in batch if row >= 3] == [4, 3, 5]


@pytest.mark.parametrize("weights", [(1,), (2, 1), (1, 1, 1), (9, *[1] * 9)])
def test_a_cycle_has_each_sets_turns_exactly(weights):
    turns, _ = Turns(weights).between(0, 3 * sum(weights))
    for cycle in range(3):
        own = turns[cycle * sum(weights) : (cycle + 1) * sum(weights)]
        assert tuple(np.bincount(own, minlength=len(weights))) == weights
