"""The restricted likelihood against statsmodels, and its intervals against planted truth."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import special
from statsmodels.regression.mixed_linear_model import MixedLM

from analysis.stats.mixed import fit_mixed, freedom_of, simultaneous_quantile


def _world(rng, cells, seeds, cell_sd, seed_sd, noise, missing=0.0):
    truth = rng.normal(0, cell_sd, cells)
    values = truth[:, None] + rng.normal(0, seed_sd, seeds) + rng.normal(0, noise, (cells, seeds))
    values[rng.random(values.shape) < missing] = np.nan
    cell, seed = np.nonzero(~np.isnan(values))
    return truth, values[cell, seed], cell, seed


@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_variances_and_predictions_are_those_of_statsmodels(missing):
    rng = np.random.default_rng(3)
    _, value, cell, seed = _world(rng, 14, 5, 1.0, 0.7, 0.8, missing)
    ours = fit_mixed(value, cell, seed, np.ones((14, 1)))
    frame = pd.DataFrame({"y": value, "cell": cell, "seed": seed, "all": 1})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = MixedLM.from_formula(
            "y ~ 1",
            frame,
            groups="all",
            re_formula="0",
            vc_formula={"cell": "0 + C(cell)", "seed": "0 + C(seed)"},
        ).fit(reml=True)
    assert ours.variances.noise == pytest.approx(theirs.scale, rel=2e-3)
    named = dict(zip(theirs.model.exog_vc.names, theirs.vcomp, strict=True))
    assert ours.variances.cells == pytest.approx(named["cell"], rel=5e-3)
    assert ours.variances.seeds == pytest.approx(named["seed"], rel=5e-3)
    assert ours.fixed[0] == pytest.approx(theirs.fe_params.iloc[0], abs=1e-4)
    effects = theirs.random_effects[1]
    by_cell = [effects[f"cell[C(cell)[{c}]]"] for c in range(14)]
    assert ours.cells - ours.fixed[0] == pytest.approx(np.array(by_cell), abs=2e-3)


def test_on_a_complete_grid_variances_are_those_of_the_mean_squares():
    rng = np.random.default_rng(4)
    _, value, cell, seed = _world(rng, 30, 4, 2.0, 1.5, 0.5)
    table = value.reshape(30, 4)
    rest = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    noise = (rest**2).sum() / (29 * 3)
    fit = fit_mixed(value, cell, seed, np.ones((30, 1))).variances
    assert fit.noise == pytest.approx(noise, rel=1e-3)
    assert fit.cells == pytest.approx(table.mean(1).var(ddof=1) - noise / 4, rel=1e-3)
    assert fit.seeds == pytest.approx(table.mean(0).var(ddof=1) - noise / 30, rel=1e-3)


def test_pooled_cells_are_closer_to_the_truth_than_their_own_means():
    rng = np.random.default_rng(5)
    own, pooled = [], []
    for _ in range(40):
        truth, value, cell, seed = _world(rng, 40, 4, 0.5, 0.0, 1.0)
        fit = fit_mixed(value, cell, seed, np.ones((40, 1)))
        own.append(((value.reshape(40, 4).mean(1) - truth) ** 2).mean())
        pooled.append(((fit.cells - truth) ** 2).mean())
    assert np.mean(pooled) < 0.65 * np.mean(own)


@pytest.mark.slow
def test_simultaneous_intervals_hold_all_cells_at_once_with_four_seeds():
    """Differences of the cells from their average, which the seeds' main effect leaves alone."""
    rng, held, simulations = np.random.default_rng(6), 0, 250
    for _ in range(simulations):
        truth, value, cell, seed = _world(rng, 12, 4, 1.0, 1.0, 0.7, 0.1)
        if len(np.unique(cell)) < 12:
            held += 1
            continue
        fit = fit_mixed(value, cell, seed, np.ones((12, 1)))
        centre = np.eye(12) - 1 / 12
        covariance = centre @ fit.cells_covariance @ centre.T
        bound = simultaneous_quantile(covariance, fit.residual_freedom)
        error = np.abs(centre @ (fit.cells - truth)) / np.sqrt(np.diag(covariance))
        held += bool((error <= bound).all())
    assert held / simulations >= 0.92


@pytest.mark.slow
def test_intervals_of_pooled_means_cover_over_the_cells():
    rng, held = np.random.default_rng(7), []
    for _ in range(250):
        truth, value, cell, seed = _world(rng, 12, 4, 1.0, 0.5, 0.7)
        fit = fit_mixed(value, cell, seed, np.ones((12, 1)))
        variance = np.diag(fit.cells_covariance)
        half = special.stdtrit(freedom_of(fit, variance, with_seeds=True), 0.975) * np.sqrt(variance)
        held.append(np.abs(fit.cells - truth) <= half)
    assert 0.925 <= np.mean(held) <= 0.98


def test_cells_that_the_fixed_effects_describe_are_not_pooled():
    rng = np.random.default_rng(8)
    _, value, cell, seed = _world(rng, 3, 6, 1.0, 0.5, 0.2)
    fit = fit_mixed(value, cell, seed, np.eye(3))
    assert fit.variances.cells == 0
    assert fit.cells == pytest.approx(value.reshape(3, 6).mean(axis=1))
