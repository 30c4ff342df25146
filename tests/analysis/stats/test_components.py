from __future__ import annotations

import numpy as np
import pytest

from analysis.stats.components import crossed_components

ROWS, COLUMNS = 40, 16


def world(rng, first, second, rest):
    """Values with planted standard deviations."""
    return (
        rng.normal(0, first, (ROWS, 1))
        + rng.normal(0, second, COLUMNS)
        + rng.normal(0, rest, (ROWS, COLUMNS))
    )


def test_planted_shares_are_recovered():
    rng = np.random.default_rng(0)
    components = [crossed_components(world(rng, 3, 1, 2)) for _ in range(400)]
    shares = np.mean([(c.first, c.second, c.interaction) for c in components], axis=0)
    assert shares == pytest.approx([9 / 14, 1 / 14, 4 / 14], abs=0.02)
    assert all(c.first + c.second + c.interaction == pytest.approx(1) for c in components)


def test_the_interval_covers_the_share_among_runs_of_one_column():
    rng = np.random.default_rng(1)
    truth = 9 / 13
    components = [crossed_components(world(rng, 3, 1, 2)) for _ in range(1000)]
    assert np.mean([c.first_low <= truth <= c.first_high for c in components]) == pytest.approx(
        0.95, abs=0.02
    )


def test_mean_squares_are_those_of_a_two_way_analysis_of_variance():
    import pandas as pd
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    values_RC = world(np.random.default_rng(2), 3, 1, 2)
    frame = pd.DataFrame(
        [(r, c, values_RC[r, c]) for r in range(ROWS) for c in range(COLUMNS)], columns=["r", "c", "y"]
    )
    table = anova_lm(ols("y ~ C(r) + C(c)", frame).fit())
    square = table["sum_sq"] / table["df"]
    first = (square["C(r)"] - square["Residual"]) / COLUMNS
    second = (square["C(c)"] - square["Residual"]) / ROWS
    total = first + second + square["Residual"]
    components = crossed_components(values_RC)
    assert (components.first, components.second) == pytest.approx((first / total, second / total))


def test_no_negative_share_and_nothing_to_share_is_said():
    components = crossed_components(np.random.default_rng(3).normal(size=(3, 3)) * [[1], [1], [1]])
    assert min(components.first, components.second, components.interaction) >= 0
    assert crossed_components(np.ones((4, 4))) is None
    assert crossed_components(np.ones((1, 4))) is None
    with pytest.raises(ValueError, match="every combination"):
        crossed_components(np.array([[1.0, np.nan], [1.0, 2.0]]))
