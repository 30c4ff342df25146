"""The estimator over seeds, against a plain least-squares fit and against planted truth."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.stats.intervals import mean_interval
from analysis.stats.seed_means import seed_means


def _places(groups: int, cells: int, seeds: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    cell = np.repeat(np.arange(groups * cells), seeds)
    return np.tile(np.arange(seeds), groups * cells), cell, np.arange(groups * cells) // cells


def test_with_every_run_it_is_the_plain_mean_of_a_seeds_cells():
    values = np.random.default_rng(0).normal(size=(2, 3, 4))
    seed, cell, group = _places(2, 3, 4)
    assert seed_means(values.ravel(), seed, cell, group, (2, 4)) == pytest.approx(values.mean(axis=1))


def test_with_holes_it_is_the_least_squares_fit_of_cells_and_seeds():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(5, 4))
    values[rng.random((5, 4)) < 0.25] = np.nan
    seed, cell, group = _places(1, 5, 4)
    known = ~np.isnan(values.ravel())
    design = np.hstack([np.eye(5)[cell], np.eye(4)[seed] - 0.25])[known]
    fit = np.linalg.lstsq(design, values.ravel()[known], rcond=None)[0]
    effects = fit[5:] - fit[5:].mean()
    expected = fit[:5].mean() + effects
    assert seed_means(values.ravel(), seed, cell, group, (1, 4))[0] == pytest.approx(expected)


@pytest.mark.parametrize(("cells", "seeds", "missing"), [(4, 4, 0.1), (24, 4, 0.1), (6, 8, 0.3)])
@pytest.mark.parametrize("seed_sd", [0.0, 1.0])
def test_rows_of_cells_with_missing_runs_cover_95_percent(cells, seeds, missing, seed_sd):
    rng = np.random.default_rng(cells)
    truth = rng.normal(0, 3, cells)
    values = truth[:, None] + seed_sd * rng.normal(size=(2500, 1, seeds))
    values = values + rng.normal(size=(2500, cells, seeds))
    values[rng.random(values.shape) < missing] = np.nan
    seed, cell, group = _places(2500, cells, seeds)
    interval = mean_interval(seed_means(values.ravel(), seed, cell, group, (2500, seeds)))
    whole = (~np.isnan(values)).any(axis=2).all(axis=1) & ~np.isnan(interval.low)
    cover = ((interval.low <= truth.mean()) & (interval.high >= truth.mean()))[whole].mean()
    assert 0.935 <= cover <= 0.975


def test_a_seed_that_shares_no_cell_with_the_others_is_left_out():
    values = np.array([[1.0, 2.0, np.nan], [1.5, 2.5, np.nan], [np.nan, np.nan, 9.0]])
    seed, cell, group = _places(1, 3, 3)
    got = seed_means(values.ravel(), seed, cell, group, (1, 3))[0]
    assert np.isnan(got[2])
    assert got[:2].mean() == pytest.approx((1.5 + 2.0 + 9.0) / 3)  # its cell still counts


def test_cells_of_one_run_each_have_no_interval():
    values = np.array([[1.0, np.nan], [np.nan, 3.0]])
    seed, cell, group = _places(1, 2, 2)
    assert np.isnan(mean_interval(seed_means(values.ravel(), seed, cell, group, (1, 2))).low).all()
