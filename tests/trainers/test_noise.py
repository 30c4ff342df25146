from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from trainers.noise import Stream, uniforms


def test_a_row_draws_the_same_number_however_many_rows_are_asked_for():
    few = uniforms(3, Stream.ROLLOUT, 5, 7, 10)
    many = uniforms(3, Stream.ROLLOUT, 5, 7, 1000)
    assert np.array_equal(few, many[:10])


@pytest.mark.parametrize("other", [(4, 1, 5, 7), (3, 2, 5, 7), (3, 1, 6, 7), (3, 1, 5, 8)])
def test_every_coordinate_gives_other_numbers(other):
    seed, stream, step, position = other
    here = uniforms(3, Stream.ROLLOUT, 5, 7, 256)
    there = uniforms(seed, Stream(stream), step, position, 256)
    assert not np.isin(here, there).any()


def test_numbers_are_uniform_and_uncorrelated_between_neighbouring_steps_and_positions():
    table = np.stack([uniforms(11, Stream.ROLLOUT, s, p, 500) for s in range(10) for p in range(10)])
    assert stats.kstest(table.ravel(), "uniform").pvalue > 1e-3
    correlations = np.corrcoef(table)[np.triu_indices(len(table), 1)]
    assert np.abs(correlations).max() < 6 / np.sqrt(500)
    assert table.min() >= 0
    assert table.max() < 1
