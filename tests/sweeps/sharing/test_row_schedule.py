"""Which rows each step takes: every row once an epoch, the same wherever it is asked."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.sharing.row_schedule import CYCLE, RowSchedule
from sweeps.spec import DataSpec
from sweeps.spec.training_set import batch_number, steps_of_epochs


def data_of(num_rows: int, prompts_per_step: int = 1, order: str = "shuffle") -> DataSpec:
    fields = {"path": "x", "digest": "d", "num_rows": num_rows, "difficulty_field": "d"}
    return DataSpec(**fields, prompts_per_step=prompts_per_step, order=order)


def walk(schedule: RowSchedule, num_batches: int) -> list[int]:
    return [row for number in range(num_batches) for row in schedule.batch(number)]


ORDERS = ("shuffle", "file", "easy_to_hard", "hard_to_easy")


@settings(max_examples=60, deadline=None)
@given(
    num_rows=st.integers(1, 40),
    share=st.floats(0.01, 1),
    seed=st.integers(0, 2**63 - 1),
    order=st.sampled_from(ORDERS),
)
def test_each_epoch_has_each_row_once(num_rows, share, seed, order):
    per_step = max(1, int(num_rows * share))
    difficulty = np.random.default_rng(seed).random(num_rows)
    schedule = RowSchedule(data_of(num_rows, per_step, order), seed, difficulty)
    rows = walk(schedule, -(-3 * num_rows // per_step))
    for epoch in range(3):
        assert sorted(rows[epoch * num_rows : (epoch + 1) * num_rows]) == list(range(num_rows))


@settings(max_examples=40, deadline=None)
@given(
    num_rows=st.integers(1, 60),
    seed=st.integers(0, 9),
    number=st.integers(0, 10**6),
    order=st.sampled_from((*ORDERS, "cyclic")),
)
def test_a_step_needs_none_before_it(num_rows, seed, number, order):
    data, difficulty = data_of(num_rows, max(1, num_rows // 3), order), np.arange(num_rows) + 1.0
    walked = RowSchedule(data, seed, difficulty)
    for before in range(max(0, number - 5), number):
        walked.batch(before)
    assert RowSchedule(data, seed, difficulty).batch(number) == walked.batch(number)


def test_a_batch_never_changes_between_versions():
    """Results on disk were trained in this order."""
    assert RowSchedule(data_of(10, 4), 0).batch(0) == [7, 3, 2, 0]
    assert RowSchedule(data_of(10, 4), 0).batch(7) == [5, 7, 8, 1]


def test_seeds_and_epochs_have_orders_of_their_own():
    data = data_of(50, 50)
    orders = [tuple(RowSchedule(data, seed).batch(epoch)) for seed in range(5) for epoch in range(5)]
    assert len(set(orders)) == 25


def test_a_row_comes_at_every_place_equally_often():
    num, draws = 5, 4000
    places = Counter(RowSchedule(data_of(num, num), 3).batch(epoch).index(0) for epoch in range(draws))
    expected = draws / num
    assert all(abs(places[k] - expected) < 5 * (expected * (1 - 1 / num)) ** 0.5 for k in range(num))


def test_difficulty_orders_rows_and_equal_ones_keep_their_places():
    difficulty = np.array([3.0, 1.0, 2.0, 1.0])
    assert RowSchedule(data_of(4, 4, "easy_to_hard"), 0, difficulty).batch(5) == [1, 3, 2, 0]
    assert RowSchedule(data_of(4, 4, "hard_to_easy"), 0, difficulty).batch(0) == [0, 2, 1, 3]


def test_a_cycle_passes_over_a_quarter_a_half_all_and_a_half_and_begins_again():
    num = 40
    schedule = RowSchedule(data_of(num, 1, "cyclic"), 0, np.ones(num))
    lengths = [round(share * num) for share in CYCLE] * 2
    begin = 0
    for length in lengths:
        rows = [schedule.batch(k)[0] for k in range(begin, begin + length)]
        assert len(set(rows)) == length
        begin += length
    assert lengths == [10, 20, 40, 20] * 2


def test_a_short_pass_draws_rows_as_often_as_one_over_their_difficulty_says():
    """Of 1 and 2 alone, one draw takes the easy row with probability 2/3."""
    schedule = RowSchedule(data_of(4, 1, "cyclic"), 0, np.array([1.0, 2.0, 1e9, 1e9]))
    cycle = sum(round(share * 4) for share in CYCLE)
    drawn = Counter(schedule.batch(k * cycle)[0] for k in range(2000))
    assert drawn[0] + drawn[1] == 2000
    assert abs(drawn[0] / 2000 - 2 / 3) < 0.05


@pytest.mark.parametrize(
    ("epochs", "per_step", "iterations", "steps"),
    [(1, 4, 1, 3), (2, 4, 1, 5), (0.5, 5, 3, 3), (0.01, 1, 1, 1)],
)
def test_epochs_end_once_as_many_prompts_as_rows_were_taken(epochs, per_step, iterations, steps):
    data = data_of(10, per_step)
    assert steps_of_epochs(data, epochs, iterations) == steps
    assert (batch_number(steps, iterations) + 1) * per_step >= epochs * 10
