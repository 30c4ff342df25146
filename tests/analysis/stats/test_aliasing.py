from __future__ import annotations

import itertools

import numpy as np
import pytest

from analysis.stats.aliasing import ABSENT, ancestors, factors_of
from analysis.stats.anova import decompose
from tests.benchmarks.importance_truth import importance_truth


def _axes(cells):
    return [factor.axes for factor in factors_of(np.array(cells))]


def test_axes_that_are_crossed_stay_apart():
    assert _axes(list(itertools.product(range(3), range(2), range(2)))) == [(0,), (1,), (2,)]


def test_an_excluded_corner_does_not_confound_what_the_rest_tells_apart():
    cells = [c for c in itertools.product(range(3), range(3)) if c != (2, 2)]
    assert _axes(cells) == [(0,), (1,)]


def test_axes_in_step_are_one_factor():
    assert _axes([[i, 2 - i, j] for i in range(3) for j in range(2)]) == [(0, 1), (2,)]


def test_an_axis_that_another_determines_is_pooled_with_it():
    """Rates of their own for each model: model and rate are never seen apart."""
    assert _axes([[0, 0], [0, 1], [1, 2], [1, 3]]) == [(0, 1)]


def test_three_axes_of_which_two_give_the_third_are_pooled():
    cells = [[a, b, (a + b) % 2] for a in range(2) for b in range(2)]
    assert _axes(cells) == [(0,), (1,), (2,)]  # single axes: the third is the interaction of the others
    linear = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert _axes(linear) == [(0, 1, 2, 3)]  # each is one minus the sum of the others


def test_a_conditional_axis_is_nested_in_the_one_that_decides():
    cells = [[0, ABSENT, ABSENT], [1, ABSENT, ABSENT], *([2, f, g] for f in range(3) for g in range(2))]
    factors = factors_of(np.array(cells))
    assert [f.axes for f in factors] == [(0,), (1,), (2,)]
    assert [f.parents for f in factors] == [(), (0,), (0,)]  # neither in the other, though both come together
    assert ancestors(factors, 1) == {0}


def test_a_condition_of_two_axes_has_both_as_parents():
    cells = [[a, b, f] for a in range(2) for b in range(2) for f in ((0, 1) if a and b else (ABSENT,))]
    assert factors_of(np.array(cells))[2].parents == (0, 1)


def test_absence_that_nothing_decides_is_a_level_like_any_other():
    cells = [[a, f] for a in range(2) for f in (ABSENT, 0, 1)]
    factors = factors_of(np.array(cells))
    assert factors[1].parents == ()
    assert factors[1].size == 3


def test_what_differs_between_schedules_is_the_schedules_though_one_has_a_knob():
    """Planted: all of it between wsd and the others; it was reported as 0.0 %."""
    cells = np.array([[0, ABSENT], [1, ABSENT], *([2, f] for f in range(3))])
    values = np.where(cells[:, 0] == 2, 1.0, 0.0)[:, None] + np.random.default_rng(0).normal(0, 0.05, (5, 4))
    result = decompose(values, cells)
    shares = {effect.axes: effect.share for effect in result.effects}
    assert shares[0,] > 0.95
    assert abs(shares[1,]) < 0.02


def test_interactions_that_stand_for_single_axes_are_left_out_and_said():
    """A half fraction: the third axis is the interaction of the first two."""
    cells = np.array([[a, b, (a + b) % 2] for a in range(2) for b in range(2)])
    values = cells[:, 2][:, None] + np.random.default_rng(0).normal(0, 0.1, (4, 6))
    result = decompose(values, cells)
    assert result.overlapping
    assert {e.axes: e.share for e in result.effects}[2,] > 0.9


@pytest.mark.parametrize("missing", [0.0, 0.15])
def test_all_lines_sum_to_one_on_any_grid(missing):
    rng = np.random.default_rng(0)
    cells = np.array([[0, ABSENT, c] for c in range(4)] + [[1, f, c] for f in range(3) for c in range(4)])
    values = rng.normal(size=(len(cells), 5)) + cells[:, :1] + rng.normal(size=(len(cells), 1))
    values[rng.random(values.shape) < missing] = np.nan
    r = decompose(values, cells)
    parts = [*(e.share for e in r.effects), r.seed_share, r.higher_share, r.unattributed_share, r.noise_share]
    assert sum(parts) == pytest.approx(1)


def test_one_seed_leaves_the_seeds_share_unknown():
    cells = np.array(list(itertools.product(range(3), range(3))))
    result = decompose(np.random.default_rng(0).normal(size=(9, 1)), cells)
    assert np.isnan(result.seed_share)
    assert np.isnan(result.noise_share)


def test_planted_shares_come_back_on_every_kind_of_grid():
    found = importance_truth(simulations=20)
    wrong = [(n, line) for n, lines in found["designs"].items() for line in lines if not line["ok"]]
    assert not wrong
    assert {"crossed", "zipped", "nested under when"} <= set(found["designs"])
