from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis import open_sweep
from analysis.tables.best_cells import best_cells
from analysis.tables.cell_table import closing_table
from analysis.tables.compare import compare
from analysis.tables.importance import NOISE_ROW, SEED_ROW, importance, in_words
from sweeps.spec.errors import UserError
from tests.analysis.grids import EXAMPLES, write_grid
from tests.analysis.synthetic import quickstart_world, write_sweep


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Accuracy = 0.5 + lr part (variance 0.04) + seed part (0.01) + noise (0.01), nothing else."""
    axes = {"model": ("a", "b"), "example": tuple("xyz"), "optim.lr": (1e-4, 2e-4), "seed": tuple(range(64))}
    directory = write_sweep(
        tmp_path_factory.mktemp("planted") / "s", quickstart_world(axes=axes, num_items=4)
    )
    runs = pd.read_parquet(directory / "runs.parquet")
    rng = np.random.default_rng(0)
    seeds = rng.normal(size=64)
    seeds = (seeds - seeds.mean()) / seeds.std() * 0.1
    lr = np.where(runs["optim.lr"] == 2e-4, 0.2, -0.2)
    runs["accuracy_sampled"] = 0.5 + lr + seeds[runs["seed"]] + rng.normal(0, 0.1, len(runs))
    runs.to_parquet(directory / "runs.parquet", index=False)
    return directory


def _shares(table):
    return dict(zip(table.frame["effect"], table.frame["share"], strict=True))


def test_planted_shares_are_recovered_within_two_points(planted):
    shares = _shares(importance(open_sweep(planted)))
    assert shares["lr"] == pytest.approx(4 / 6, abs=0.02)
    assert shares[SEED_ROW] == pytest.approx(1 / 6, abs=0.02)
    assert shares[NOISE_ROW] == pytest.approx(1 / 6, abs=0.02)
    for nothing in ("model", "example", "model × example"):
        assert abs(shares[nothing]) < 0.02


def test_effects_are_listed_largest_first_with_seed_and_noise_last(planted):
    table = importance(open_sweep(planted))
    assert table.frame["effect"].iloc[0] == "lr"
    assert list(table.frame["effect"][-2:]) == [SEED_ROW, NOISE_ROW]
    assert "Exact functional ANOVA" in table.notes[0]


def test_an_incomplete_grid_uses_type_two_and_says_so(planted):
    sweep = open_sweep(planted).where("seed!=5")
    holed = open_sweep(planted).where("seed>=3")
    assert _shares(importance(sweep))["lr"] == pytest.approx(_shares(importance(holed))["lr"], abs=0.02)


def test_missing_runs_are_counted_and_the_shares_hardly_move(quickstart, ragged):
    table = importance(open_sweep(ragged))
    assert "type-II" in table.notes[0]
    assert any("runs without a value" in note for note in table.notes)
    assert _shares(table)["lr"] == pytest.approx(_shares(importance(open_sweep(quickstart)))["lr"], abs=0.05)


def test_a_sweep_of_one_cell_has_nothing_to_rank(quickstart):
    sweep = open_sweep(quickstart).where("model=tiny-64", "example=carry", "lr=1e-4")
    with pytest.raises(UserError, match="axis with two values"):
        importance(sweep)


def test_one_seed_is_said_to_bound_shares_only(quickstart):
    table = importance(open_sweep(quickstart).where("seed=0"))
    assert any("upper bounds" in note for note in table.notes)


def test_the_best_cell_is_judged_on_seeds_that_did_not_choose_it(study):
    best = best_cells(open_sweep(study))
    assert best.check.held_out < best.check.apparent
    low, high = (f"{100 * end:.1f}" for end in (best.check.low, best.check.high))
    assert f"{100 * best.check.held_out:.1f} [{low}, {high}] on the other 8" in best.sentence
    assert len(best.table.frame) == 10
    assert best.table.frame["mean"].is_monotonic_decreasing


def test_one_seed_cannot_judge_its_own_choice(quickstart):
    best = best_cells(open_sweep(quickstart).where("seed=0"))
    assert best.check is None
    assert "One seed" in best.sentence


def _grid(tmp_path, name, score, **more):
    return open_sweep(write_grid(tmp_path / name, EXAMPLES / f"{name}.yaml", score, **more))


def test_the_readmes_schedules_are_told_apart_from_their_knobs(tmp_path):
    """What differs is wsd against the others, 98 % of the variance; 0.0 % was reported."""

    def score(axes, rng):
        return {"accuracy_sampled": 0.5 + 0.3 * (axes["schedule"] == "wsd") + rng.normal(0, 0.02)}

    table = importance(_grid(tmp_path, "schedules", score))
    shares = _shares(table)
    assert shares["schedule"] > 0.95
    for knob in ("decay_fraction within schedule", "decay_shape within schedule", "lr"):
        assert abs(shares[knob]) < 0.02
    assert sum(shares.values()) == pytest.approx(1, abs=0.002)  # lines that print as 0.0 are left out
    assert any("decay_fraction exists only for some values of schedule" in note for note in table.notes)


def test_the_readmes_ladder_shows_the_axis_it_asks_about(tmp_path):
    """Steps and rate move in step: they share a line, and the table says that they cannot be told apart."""

    def score(axes, rng):
        return {"accuracy_sampled": 0.5 + {5: -0.1, 10: 0.0, 20: 0.1}[axes["steps"]] + rng.normal(0, 0.01)}

    table = importance(_grid(tmp_path, "ladder", score))
    shares = _shares(table)
    assert shares["steps | lr"] > 0.9
    assert any("steps and lr cannot be told apart" in note for note in table.notes)
    assert "steps | lr" in in_words(table)


def test_one_seed_leaves_the_seeds_share_unknown(quickstart):
    table = importance(open_sweep(quickstart).where("seed=0"))
    assert np.isnan(_shares(table)[SEED_ROW])
    assert "unknown" in in_words(table)
    assert "1 seed crossed" in table.notes[0]


def test_tables_and_comparisons_warn_where_an_axis_moves_with_another(tmp_path):
    def score(axes, rng):
        return {"accuracy_sampled": 0.01 * axes["steps"] + rng.normal(0, 0.01)}

    sweep = _grid(tmp_path, "ladder", score)
    warned = "optim.lr cannot be told from steps: on this grid they move together"
    assert any(warned in note for note in sweep.cell_table(by=["lr"]).notes)
    assert not any("move together" in note for note in sweep.cell_table(by=["model"]).notes)
    assert not any("move together" in note for note in sweep.cell_table().notes)
    with pytest.raises(UserError, match=r"steps cannot be told from optim\.lr"):
        compare(sweep, "steps=5", "steps=20")
    assert "steps and lr cannot be told apart" in closing_table(sweep.directories[0])
