from __future__ import annotations

import numpy as np
import pytest

from analysis.stats.heldout import held_out_best


def test_equal_cells_regress_fully_to_their_common_mean():
    """With no real difference the winner's lead is all luck: held out it is the common mean."""
    rng = np.random.default_rng(0)
    best = [held_out_best(rng.normal(0.8, 0.02, (100, 8))) for _ in range(60)]
    apparent, held = np.mean([f.apparent for f in best]), np.mean([f.held_out for f in best])
    expected_lead = 0.02 / np.sqrt(4) * 2.508  # mean of the largest of 100 normal values, in deviations
    assert held == pytest.approx(0.8, abs=0.002)
    assert apparent - 0.8 == pytest.approx(expected_lead, rel=0.05)
    assert np.mean([f.drop for f in best]) == pytest.approx(-expected_lead, rel=0.1)


def test_planted_regression_to_the_mean_is_the_shrinkage_factor():
    """With cell variance v and error variance e of a mean, the winner keeps v/(v+e) of its apparent lead."""
    rng = np.random.default_rng(1)
    kept = []
    for _ in range(150):
        truth = rng.normal(0, 1, (200, 1))
        best = held_out_best(truth + rng.normal(0, 2, (200, 8)))
        kept.append((best.held_out, best.apparent))
    held, apparent = np.mean(kept, axis=0)
    assert held / apparent == pytest.approx(1 / (1 + 4 / 4), abs=0.04)


def test_a_clear_winner_keeps_its_lead():
    values = np.random.default_rng(2).normal(0, 0.01, (20, 4))
    values[7] += 1
    best = held_out_best(values)
    assert best.winner == 7
    assert best.chosen[7] == 1
    assert abs(best.drop) < 0.01


def test_a_cell_with_a_missing_seed_neither_wins_nor_breaks_the_rest():
    values = np.random.default_rng(3).normal(0, 0.01, (5, 4))
    values[2] += 5
    values[2, 1] = np.nan
    best = held_out_best(values)
    assert best.winner != 2
    assert best.chosen[2] == 0
    assert np.isfinite(best.held_out)


@pytest.mark.parametrize("values", [np.zeros((4, 1)), np.zeros((0, 4)), np.full((3, 4), np.nan)])
def test_without_two_seeds_there_is_nothing_to_hold_out(values):
    assert held_out_best(values) is None


@pytest.mark.parametrize("seeds", [4, 8])
def test_the_held_out_interval_covers_what_the_chosen_cells_are_worth(seeds):
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(300):
        truth_C = rng.normal(0, 0.3, 12)
        values_CS = truth_C[:, None] + rng.normal(0, 0.5, seeds) + rng.normal(size=(12, seeds))
        found = held_out_best(values_CS)
        covered.append(found.low <= found.chosen @ truth_C <= found.high)
    assert np.mean(covered) >= 0.95


def test_the_best_of_losses_is_the_smallest():
    values_CS = np.random.default_rng(0).normal(size=(6, 4)) + np.arange(6)[:, None]
    small, large = held_out_best(values_CS, smallest=True), held_out_best(-values_CS)
    assert small.winner == large.winner == 0
    assert (small.apparent, small.held_out) == pytest.approx((-large.apparent, -large.held_out))
    assert small.low < small.held_out < small.high
