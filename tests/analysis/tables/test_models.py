"""Pooled cells, adjusted means, profiles, bounds and planning, against planted truth."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import (
    adjusted_means,
    compare,
    open_sweep,
    pooled_cells,
    profile,
    survivor_bounds,
    what_to_add,
)
from analysis.tables.compare import compare_levels
from orchestrator.cli import main
from sweeps.spec.errors import UserError
from tests.analysis.grids import EXAMPLES, write_grid
from tests.analysis.synthetic import quickstart_world, write_sweep

AXES = {
    "model": ("a", "b", "c"),
    "optim.lr": (1e-4, 2e-4, 4e-4),
    "seed": tuple(range(4)),
}


def _planted(tmp_path, score, axes=AXES, keep=None, **world):
    """A sweep whose accuracy is ``score(runs)``; of runs that ``keep`` leaves out nothing came."""
    directory = write_sweep(tmp_path / "planted", quickstart_world(axes=axes, num_items=8, **world))
    (directory / "items.parquet").unlink()
    path = directory / "runs.parquet"
    runs = pd.read_parquet(path)
    runs["accuracy_sampled"] = score(runs)
    if keep is not None:
        runs.loc[~keep(runs), "accuracy_sampled"] = np.nan
    runs.to_parquet(path, index=False)
    return open_sweep(directory)


def _unbalanced(tmp_path):
    """Models b and c are better by 0.1 and 0.2; the highest rate, worse by 0.1, was run on c only."""
    rng = np.random.default_rng(0)

    def score(runs):
        model = runs["model"].map({"a": 0.3, "b": 0.4, "c": 0.5}).to_numpy()
        rate = runs["optim.lr"].map({1e-4: 0.0, 2e-4: 0.05, 4e-4: -0.1}).to_numpy()
        return model + rate + rng.normal(0, 0.005, len(runs)) + 0.01 * runs["seed"].to_numpy()

    return _planted(tmp_path, score, keep=lambda runs: (runs["optim.lr"] < 4e-4) | (runs["model"] == "c"))


def test_adjusted_means_put_an_unbalanced_axis_on_equal_terms(tmp_path):
    frame = adjusted_means(_unbalanced(tmp_path), "lr").frame.set_index("optim.lr")
    assert frame["plain"][4e-4] > frame["plain"][1e-4] - 0.02  # flattered by its model
    assert frame["difference"][2e-4] == pytest.approx(0.05, abs=0.015)
    assert frame["difference"][4e-4] == pytest.approx(-0.1, abs=0.02)
    for lr, truth in ((2e-4, 0.05), (4e-4, -0.1)):
        assert frame["difference_low"][lr] <= truth <= frame["difference_high"][lr]
        assert frame["p_holm"][lr] < 0.05
    assert frame["cells"].tolist() == [3, 3, 1]
    assert np.isnan(frame["difference"][1e-4])


def test_contrasts_are_to_the_value_that_is_asked_for(tmp_path):
    frame = adjusted_means(_unbalanced(tmp_path), "lr", reference="2e-4").frame.set_index("optim.lr")
    assert np.isnan(frame["difference"][2e-4])
    assert frame["difference"][1e-4] == pytest.approx(-0.05, abs=0.015)
    with pytest.raises(UserError, match="it takes"):
        adjusted_means(_unbalanced(tmp_path), "lr", reference="7")


def test_on_a_balanced_grid_adjusted_means_are_the_plain_ones(quickstart):
    frame = adjusted_means(open_sweep(quickstart), "lr").frame
    assert frame["adjusted"].to_numpy() == pytest.approx(frame["plain"].to_numpy(), abs=1e-9)


def test_an_axis_that_moves_with_another_cannot_be_adjusted(tmp_path):
    together = {"a": 1e-4, "b": 2e-4, "c": 4e-4}
    sweep = _planted(
        tmp_path,
        lambda runs: np.random.default_rng(0).normal(0.5, 0.1, len(runs)),
        keep=lambda runs: runs["optim.lr"] == runs["model"].map(together),
    )
    with pytest.raises(UserError, match=r"'optim\.lr' cannot be told from model"):
        adjusted_means(sweep, "lr")


def test_pooled_cells_are_nearer_to_the_truth_and_hold_it_together(tmp_path):
    axes = AXES | {"model": tuple("abcdefgh"), "example": ("x", "y")}
    rng = np.random.default_rng(1)
    truth = {}

    def score(runs):
        cells = runs[["model", "example", "optim.lr"]].astype(str).agg("/".join, axis=1)
        truth.update({cell: 0.5 + rng.normal(0, 0.02) for cell in cells.unique()})
        seed = 0.02 * rng.normal(size=4)
        return cells.map(truth).to_numpy() + seed[runs["seed"]] + rng.normal(0, 0.04, len(runs))

    frame = pooled_cells(_planted(tmp_path, score, {k: axes[k] for k in ("model", "example", *AXES)})).frame
    names = frame[["model", "example", "optim.lr"]].astype(str).agg("/".join, axis=1)
    true = names.map(truth).to_numpy()
    assert len(frame) == 48
    own, pooled = (frame[name] - frame[name].mean() - true + true.mean() for name in ("own", "pooled"))
    assert (pooled**2).mean() < 0.8 * (own**2).mean()
    apart = true - true.mean()
    held = (frame["difference_low"] <= apart) & (apart <= frame["difference_high"])
    assert held.mean() >= 0.97
    assert (frame["difference_high"] - frame["difference_low"]).max() < 0.2  # 4 seeds alone: 0.13 to 0.4


def test_a_model_of_all_cells_needs_two_seeds(tmp_path):
    sweep = _planted(tmp_path, lambda runs: 0.5 + 0 * runs["seed"], AXES | {"seed": (3,)})
    with pytest.raises(UserError, match="9 cells and 1 seeds"):
        pooled_cells(sweep)


def test_the_profile_counts_runs_and_the_probability_of_improvement_pairs(tmp_path):
    rng = np.random.default_rng(2)
    sweep = _planted(
        tmp_path, lambda runs: 0.4 + 2e2 * runs["optim.lr"].to_numpy() + rng.normal(0, 0.03, len(runs))
    )
    answer = profile(sweep, "lr")
    runs = sweep.runs()
    for row in answer.profile.frame.to_dict("records"):
        part = runs[np.isclose(runs["optim.lr"], float(row["optim.lr"]))]
        assert row["share"] == pytest.approx((part["accuracy_sampled"] >= row["score"]).mean())
        assert row["low"] <= row["share"] <= row["high"]
    first = answer.improvement.frame.iloc[0]
    expected = []
    for model in "abc":
        a, b = (
            runs[(runs["model"] == model) & (runs["optim.lr"] == lr)]["accuracy_sampled"]
            for lr in (1e-4, 2e-4)
        )
        expected.append(stats.mannwhitneyu(b, a).statistic / 16)
    assert first["probability"] == pytest.approx(np.mean(expected))
    assert (first["tasks"], first["seeds"]) == (3, 4)
    assert 0 <= first["low"] <= first["probability"] <= first["high"] <= 1


def test_bounds_hold_the_mean_that_diverged_runs_would_have_had(tmp_path):
    directory = write_sweep(tmp_path / "lost", quickstart_world(num_items=8))
    path = directory / "runs.parquet"
    runs = pd.read_parquet(path)
    whole = runs.groupby("optim.lr")["accuracy_sampled"].mean()
    lost = (runs["optim.lr"] == 2e-4) & (runs["accuracy_sampled"] < 0.9)
    runs.loc[lost, ["accuracy_sampled", "outcome"]] = [np.nan, "diverged"]
    runs.to_parquet(path, index=False)
    frame = survivor_bounds(open_sweep(directory)).frame.set_index("optim.lr")
    row, share = frame.loc[2e-4], lost.sum() / 24
    assert row["diverged"] == lost.sum() > 0
    assert row["mean"] > whole[2e-4]
    assert row["worst"] <= whole[2e-4] <= row["best"]
    assert row["best"] - row["worst"] == pytest.approx(share)
    assert 0 <= row["low"] < row["worst"] < row["best"] <= row["high"] <= 1
    assert frame.loc[1e-4, "worst"] == frame.loc[1e-4, "best"]
    with pytest.raises(UserError, match=r"no range.*trainer\.metrics\.loss|no range"):
        survivor_bounds(open_sweep(directory), metric="wall_s")


def test_planning_names_the_bottleneck(quickstart):
    sweep = open_sweep(quickstart)
    row = what_to_add(sweep, "lr=1e-4", "lr=2e-4", effect=0.005).frame.iloc[0]
    test = compare(sweep, "lr=1e-4", "lr=2e-4").tests[0]
    assert row["power"] == pytest.approx(test.power(0.005))
    assert row["seeds_needed"] == test.seeds_needed(0.005)
    assert row["items_needed"] == test.items_needed(0.005)
    assert ("items" in row["add"]) or ("seeds" in row["add"])
    large = what_to_add(sweep, "lr=1e-4", "lr=2e-4", effect=0.5).frame.iloc[0]
    assert (large["add"], large["seeds_needed"] <= 4) == ("nothing", True)
    with pytest.raises(UserError, match="--effect"):
        what_to_add(sweep, "lr=1e-4", "lr=2e-4", metric="wall_s")


@pytest.mark.parametrize(
    "words",
    [
        ("pooled",),
        ("adjust", "lr"),
        ("profile", "lr"),
        ("bounds", "--by", "lr"),
        ("need", "lr=1e-4", "lr=2e-4", "--effect", "1"),
    ],
)
def test_each_verb_prints_one_json_object_or_a_table(quickstart, capsys, words):
    verb, *rest = words
    assert main([verb, str(quickstart), *rest, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["title"]
    assert answer["rows"]
    assert main([verb, str(quickstart), *rest]) == 0
    assert answer["title"] in capsys.readouterr().out


def _ladder(tmp_path, outcome=lambda axes: "done"):
    """The ladder's grid, horizons and rates partly in step; accuracy falls with the rate and by nothing else
    but 0.01 for the larger model.
    """

    def values(axes, rng):
        rate = 0.8 - 100 * axes["optim.lr"] - 0.01 * (axes["model"] == "tiny-96")
        return {"accuracy_sampled": rate + 0.005 * axes["seed"] + rng.normal(0, 0.002)}

    return open_sweep(write_grid(tmp_path / "ladder", EXAMPLES / "ladder.yaml", values, outcome=outcome))


def test_adjusted_means_of_what_the_cells_cannot_tell_are_refused_and_others_lie_among_the_cells(
    tmp_path,
):
    sweep = _ladder(tmp_path)
    with pytest.raises(UserError, match=r"'steps' cannot be told from optim\.lr"):
        adjusted_means(sweep, "steps")
    table = adjusted_means(sweep, "model", reference="tiny-64")
    frame = table.frame.set_index("model")
    assert frame["difference"]["tiny-96"] == pytest.approx(-0.01, abs=0.003)
    cells = sweep.runs().groupby("cell")["accuracy_sampled"].mean()
    assert cells.min() < frame["adjusted"].min() < frame["adjusted"].max() < cells.max()
    assert frame["adjusted"].mean() == pytest.approx(cells.mean(), abs=0.003)
    assert "average over the cells" in table.text()
    by_rate = adjusted_means(sweep, "optim.lr", reference="3e-4").frame.set_index("optim.lr")
    assert by_rate["difference"][1.5e-4] == pytest.approx(0.015, abs=0.003)
    assert by_rate.loc[[1e-4, 4e-4], ["difference", "p"]].isna().all(axis=None)


def test_an_axis_that_decides_whether_another_exists_is_averaged_over_it(tmp_path):
    def values(axes, rng):
        late = {"schedule.decay_fraction": 0.8}.items() <= axes.items()
        score = 0.5 + 0.1 * (axes["schedule"] == "wsd") + 0.06 * late + 0.2 * (axes["optim.lr"] == 1e-3)
        return {"accuracy_sampled": score + 0.01 * axes["seed"] + rng.normal(0, 0.002)}

    sweep = open_sweep(write_grid(tmp_path / "schedules", EXAMPLES / "schedules.yaml", values))
    frame = adjusted_means(sweep, "schedule").frame.set_index("schedule")
    assert frame["difference"]["wsd"] == pytest.approx(0.1 + 0.06 / 3, abs=0.003)
    assert frame["adjusted"]["constant"] == pytest.approx(0.5 + 0.1 + 0.015, abs=0.003)


def test_an_axis_whose_first_value_matches_none_is_not_said_to_have_no_matches_at_all(tmp_path):
    with pytest.raises(UserError, match=r"match those of optim\.lr=4e-4 on model, steps"):
        compare_levels(_ladder(tmp_path), "optim.lr")


def test_a_table_says_how_the_mean_of_several_cells_with_missing_runs_is_made(tmp_path):
    lost = {"model": "tiny-96", "optim.lr": 3e-4, "seed": 3}
    sweep = _ladder(tmp_path, lambda axes: "failed" if lost.items() <= axes.items() else "done")
    row = sweep.cell_table(["model"]).frame.set_index("model").loc["tiny-96"]
    runs = sweep.runs().query("model == 'tiny-96' and outcome == 'done'")
    design = pd.get_dummies(runs["cell"]).to_numpy(float), pd.get_dummies(runs["seed"]).to_numpy(float)
    fit, *_ = np.linalg.lstsq(np.hstack(design), runs["accuracy_sampled"].to_numpy(float), rcond=None)
    num_cells = design[0].shape[1]
    assert row["mean"] == pytest.approx(fit[:num_cells].mean() + fit[num_cells:].mean())
    assert "least squares, each run its cell plus its seed" in " ".join(
        sweep.cell_table(["model"]).text().split()
    )
    assert "several cells" in " ".join(_ladder(tmp_path / "whole").cell_table(["optim.lr"]).text().split())
