from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import open_sweep
from analysis.stats.testing import crossed_difference, holm
from analysis.tables.compare import compare, compare_levels
from sweeps.spec.errors import UserError
from tests.analysis.by_hand import seed_values
from tests.analysis.grids import EXAMPLES, write_grid
from tests.analysis.synthetic import quickstart_world, write_sweep


def _per_seed(runs, lr):
    return runs[runs["optim.lr"] == lr].groupby("seed")["accuracy_sampled"].mean()


def test_matched_runs_are_compared_seed_by_seed(quickstart):
    sweep = open_sweep(quickstart)
    row = compare(sweep, "optim.lr=1e-4", "optim.lr=2e-4", over="seeds").table.frame.iloc[0]
    runs = sweep.runs()
    difference = (_per_seed(runs, 2e-4) - _per_seed(runs, 1e-4)).to_numpy()
    expected = stats.ttest_1samp(difference, 0).confidence_interval(0.95)
    assert row["difference"] == pytest.approx(difference.mean())
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high))
    assert row["p"] == pytest.approx(stats.ttest_1samp(difference, 0).pvalue)
    assert row["seeds"] == 4


def test_the_sign_says_b_minus_a(quickstart):
    sweep = open_sweep(quickstart)
    up = compare(sweep, "lr=1e-3", "lr=1e-4").table.frame.iloc[0]
    down = compare(sweep, "lr=1e-4", "lr=1e-3").table.frame.iloc[0]
    assert up["difference"] == pytest.approx(-down["difference"])
    assert up["difference"] > 0.5


def test_a_family_is_corrected_for_its_size_and_the_sentence_says_so(study):
    sweep = open_sweep(study)
    comparison = compare(sweep, "lr=1e-4", "lr=2e-4", by=["model", "example"])
    frame = comparison.table.frame
    assert len(frame) == 28
    assert frame["p_holm"].tolist() == pytest.approx(holm(frame["p"].to_numpy()).tolist())
    assert all("16 matched seeds" in s and "after Holm over 28" in s for s in comparison.sentences)
    assert comparison.sentences[0].startswith("lr=2e-4 minus lr=1e-4, model=")


def test_every_value_of_an_axis_is_compared_with_the_first(quickstart):
    comparison = compare_levels(open_sweep(quickstart), "lr")
    assert comparison.table.frame["optim.lr"].tolist() == [1e-4, 2e-4, 1e-3]
    assert comparison.table.frame["family"].tolist() == [3, 3, 3]
    other = compare_levels(open_sweep(quickstart), "lr", reference="2e-4")
    assert other.table.frame["optim.lr"].tolist() == [3e-5, 1e-4, 1e-3]


def test_without_the_seed_the_test_is_unpaired(quickstart):
    sweep = open_sweep(quickstart)
    row = compare(sweep, "lr=1e-4", "lr=2e-4", match_on=["model", "example"], over="seeds").table.frame.iloc[
        0
    ]
    runs = sweep.runs()
    a, b = _per_seed(runs, 1e-4), _per_seed(runs, 2e-4)
    expected = stats.ttest_ind(b, a, equal_var=False).confidence_interval(0.95)
    assert not row["paired"]
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high))


def test_runs_without_a_partner_are_counted(ragged):
    sweep = open_sweep(ragged)
    comparison = compare(sweep, "lr=1e-4", "lr=2e-4")
    runs = sweep.runs()
    keys = ["model", "example", "seed"]
    has = {
        lr: set(map(tuple, runs[(runs["optim.lr"] == lr) & (runs["outcome"] == "done")][keys].to_numpy()))
        for lr in (1e-4, 2e-4)
    }
    alone = len(has[1e-4] ^ has[2e-4])
    assert alone > 0
    assert any(f"{alone} runs without a partner" in note for note in comparison.table.notes)


@pytest.mark.parametrize("by", [[], ["model"], ["model", "example"], ["seed"]])
def test_differences_of_a_ragged_grid_are_those_of_pandas(ragged, by):
    sweep = open_sweep(ragged)
    comparison = compare(sweep, "lr=1e-4", "lr=2e-4", by=by)
    runs = sweep.runs().astype({"model": str, "example": str})
    values = runs.pivot_table(
        index=["model", "example", "seed"], columns="optim.lr", values="accuracy_sampled"
    )
    pairs = (values[2e-4] - values[1e-4]).dropna().rename("difference").reset_index()
    cells = ["model", "example"] if by != ["seed"] else ["model", "example", "seed"]
    for row in comparison.table.frame.to_dict("records"):
        cell_pairs = pairs[
            np.logical_and.reduce([pairs[key] == row[key] for key in by] or [pairs["seed"] >= 0])
        ]
        expected = seed_values(cell_pairs, cells, "difference")
        shown = comparison.by_seed
        shown = shown[np.logical_and.reduce([shown[key] == row[key] for key in by] or [shown["seed"] >= 0])]
        assert shown["difference"].tolist() == pytest.approx(expected.tolist())
        assert shown["seed"].tolist() == expected.index.tolist()
        assert row["difference"] == pytest.approx(expected.mean())
        assert row["seeds"] == len(expected)
    assert len(comparison.table.frame) == len(pairs.groupby(by) if by else [pairs])
    left_out = values[[1e-4, 2e-4]].notna().to_numpy().sum() - 2 * len(pairs)
    assert any(f"{left_out} runs without a partner" in note for note in comparison.table.notes)


def test_unpaired_seeds_are_of_cells_that_both_sides_have(tmp_path):
    directory = write_sweep(tmp_path / "lacking", quickstart_world(num_items=4))
    runs = pd.read_parquet(directory / "runs.parquet")
    lacking = (runs["model"] == "tiny-32") & (runs["optim.lr"] == 2e-4)
    runs.loc[lacking, "accuracy_sampled"] = np.nan
    runs.to_parquet(directory / "runs.parquet", index=False)
    sweep = open_sweep(directory)
    whole = compare(sweep, "lr=1e-4", "lr=2e-4", match_on=["model", "example"])
    part = compare(sweep.where("model=tiny-64"), "lr=1e-4", "lr=2e-4", match_on=["model", "example"])
    pd.testing.assert_frame_equal(whole.table.frame, part.table.frame)
    assert any("12 runs without a partner" in note for note in whole.table.notes)


def test_four_seeds_can_show_a_clear_difference(quickstart):
    comparison = compare(open_sweep(quickstart), "lr=1e-4", "lr=1e-3")
    row = comparison.table.frame.iloc[0]
    assert row["high"] < -0.5
    assert row["p"] < 1e-3
    assert "permutation" not in " ".join(comparison.table.notes)


def test_one_seed_gives_a_difference_and_no_claim(tmp_path):
    axes = {"model": ("tiny-64",), "example": ("carry",), "optim.lr": (1e-4, 2e-4), "seed": (7,)}
    sweep = open_sweep(write_sweep(tmp_path / "lone", quickstart_world(axes=axes, num_items=20)))
    comparison = compare(sweep, "lr=1e-4", "lr=2e-4")
    assert np.isnan(comparison.table.frame[["low", "p", "p_holm"]].to_numpy(dtype=float)).all()
    assert "too few for an interval or a test" in comparison.sentences[0]


def test_a_constant_metric_has_no_difference_and_p_one(tmp_path):
    world = quickstart_world(num_items=8, extra_metrics={"num_things": 3.0})
    sweep = open_sweep(write_sweep(tmp_path / "flat", world))
    row = compare(sweep, "lr=1e-4", "lr=2e-4", metric="num_things").table.frame.iloc[0]
    assert (row["difference"], row["p"]) == (0.0, 1.0)
    assert np.isnan(row["effect_size"])


@pytest.mark.parametrize(
    ("a", "b", "options", "word"),
    [
        ("lr=1e-4", "lr=7", {}, "1e-3"),
        ("lrr=1e-4", "lr=2e-4", {}, "did you mean"),
        ("lr=1e-4", "lr=2e-4", {"by": ["modle"]}, "did you mean"),
        ("lr=1e-4", "lr=2e-4", {"metric": "accuracy"}, "accuracy_greedy"),
        ("seed=0", "seed=1", {"match_on": ["seed"]}, "match on fewer axes"),
    ],
)
def test_bad_input_is_refused_with_the_fix(quickstart, a, b, options, word):
    with pytest.raises(ValueError, match=word):
        compare(open_sweep(quickstart), a, b, **options)


def test_an_axis_with_one_value_has_nothing_to_compare(quickstart):
    with pytest.raises(UserError, match=r"match those of model=tiny-64 on example, optim\.lr, seed"):
        compare_levels(open_sweep(quickstart).where("model=tiny-64"), "model")


def test_power_to_see_one_point_grows_with_seeds(study, quickstart):
    few = compare(open_sweep(quickstart), "lr=1e-4", "lr=2e-4").table.frame.iloc[0]
    many = compare(open_sweep(study), "lr=1e-4", "lr=2e-4").table.frame.iloc[0]
    assert 0 < few["power_1_point"] < many["power_1_point"] <= 1
    assert many["seeds_for_1_point"] <= 16


def test_p_values_of_whole_sweeps_are_uniform_when_nothing_differs(tmp_path):
    """Two values of an axis that does nothing, many times over: p ≤ 0.25 in a quarter of the cells' tests."""
    axes = {"example": tuple("abcdefghijklmnopqrst"), "optim.lr": (1e-4, 2e-4), "seed": tuple(range(6))}
    directory = write_sweep(tmp_path / "null", quickstart_world(axes=axes, num_items=4))
    runs = pd.read_parquet(directory / "runs.parquet")
    p = []
    for draw in range(15):
        runs["accuracy_sampled"] = np.random.default_rng(draw).normal(0.8, 0.05, len(runs))
        runs.to_parquet(directory / "runs.parquet", index=False)
        p += (
            compare(open_sweep(directory), "lr=1e-4", "lr=2e-4", by=["example"], over="seeds")
            .table.frame["p"]
            .tolist()
        )
    assert len(p) == 300
    assert np.mean(np.array(p) <= 0.25) == pytest.approx(0.25, abs=0.06)


def test_two_directories_are_compared_by_name(tmp_path):
    axes = {"model": ("tiny-64",), "optim.lr": (1e-4, 2e-4), "seed": (0, 1, 2)}
    world = quickstart_world(axes=axes, num_items=20)
    one = write_sweep(tmp_path / "one", world)
    two = write_sweep(
        tmp_path / "two", quickstart_world(axes=axes | {"model": ("tiny-96",)}, num_items=20, rng_seed=5)
    )
    both = open_sweep(one, two)
    row = compare(both, "sweep=one", "sweep=two", match_on=["optim.lr", "seed"]).table.frame.iloc[0]
    means = both.runs().groupby("sweep")["accuracy_sampled"].mean()
    assert row["difference"] == pytest.approx(means["two"] - means["one"])
    assert row["seeds"] == 3


def _by_schedule(tmp_path):
    def score(axes, rng):
        return {"accuracy_sampled": 0.5 + 0.1 * (axes["schedule"] == "wsd") + rng.normal(0, 0.01)}

    return open_sweep(write_grid(tmp_path / "grid", EXAMPLES / "schedules.yaml", score))


def test_runs_are_not_matched_on_an_axis_that_one_side_lacks(tmp_path):
    sweep = _by_schedule(tmp_path)
    answer = compare(sweep, "schedule=constant", "schedule=wsd")
    row = answer.table.frame.iloc[0]
    assert row["seeds"] == 4
    assert row["difference"] == pytest.approx(0.1, abs=0.02)
    assert any("Not matched on schedule.decay_fraction" in note for note in answer.table.notes)
    assert answer.table.notes[0].startswith("Matched on optim.lr, seed;")
    levels = compare_levels(sweep, "schedule").table
    assert levels.frame["schedule"].tolist() == ["cosine", "wsd"]
    knob = compare_levels(sweep, "decay_shape").table  # both sides have the other knob: it is matched on
    assert knob.notes[0].startswith("Matched on schedule, schedule.decay_fraction, optim.lr, seed;")


def test_sides_that_share_runs_are_refused(quickstart):
    with pytest.raises(UserError, match="16 runs match both 'lr=1e-4' and 'example=carry,short'"):
        compare(open_sweep(quickstart), "lr=1e-4", "example=carry,short")


def _item_differences(sweep, low, high):
    """B minus A per seed and item, averaged over cells, from the stored lists one by one."""
    items = sweep.items()
    last = items[(items["mode"] == "sampled") & (items["step"] == 10)]
    sides = [
        last[last["optim.lr"] == lr].groupby("seed")["correct"].apply(lambda c: np.mean(list(c), axis=0))
        for lr in (low, high)
    ]
    return np.stack((sides[1] - sides[0]).to_list())


def test_by_default_the_test_is_over_seeds_and_the_items_that_both_sides_share(quickstart):
    sweep = open_sweep(quickstart)
    row = compare(sweep, "lr=1e-4", "lr=2e-4").table.frame.iloc[0]
    values = _item_differences(sweep, 1e-4, 2e-4)
    expected = crossed_difference(values, "both", bounds=(-1.0, 1.0), verdicts=6)
    assert (row["over"], row["items"]) == ("both", 200)
    for name in ("low", "high", "p"):
        assert row[name] == pytest.approx(getattr(expected, name), rel=1e-4)
    assert row["power_1_point"] == pytest.approx(expected.power(0.01), rel=1e-4)
    assert (row["low"] > 0 or row["high"] < 0) == (row["p"] < 0.05)


@pytest.mark.parametrize(("over", "axis"), [("items", 0), ("seeds", 1)])
def test_a_test_over_one_of_them_is_the_t_test_of_its_means(quickstart, over, axis):
    sweep = open_sweep(quickstart)
    row = compare(sweep, "lr=1e-4", "lr=2e-4", over=over).table.frame.iloc[0]
    means = _item_differences(sweep, 1e-4, 2e-4).mean(axis=axis)
    assert row["p"] == pytest.approx(stats.ttest_1samp(means, 0).pvalue, rel=1e-3)


def test_levels_read_their_items_in_one_go_and_give_what_pairs_give(quickstart):
    sweep = open_sweep(quickstart)
    levels = compare_levels(sweep, "lr").table.frame.set_index("optim.lr")
    for lr in ("1e-4", "2e-4", "1e-3"):
        one = compare(sweep, "lr=3e-5", f"lr={lr}").table.frame.iloc[0]
        for name in ("difference", "low", "high", "p"):
            assert levels.loc[float(lr), name] == pytest.approx(one[name], rel=1e-5, abs=1e-9)


def test_missing_runs_move_the_items_as_they_move_the_difference(ragged):
    sweep = open_sweep(ragged)
    seeds, both = (
        compare(sweep, "lr=1e-4", "lr=2e-4", over=o).table.frame.iloc[0] for o in ("seeds", "both")
    )
    assert both["difference"] == pytest.approx(seeds["difference"])


def test_planning_says_how_many_seeds_or_items_the_corrected_test_needs(quickstart):
    sweep = open_sweep(quickstart)
    one = compare(sweep, "lr=1e-4", "lr=2e-4").table.frame.iloc[0]
    family = compare(sweep, "lr=1e-4", "lr=2e-4", by=["example"]).table.frame
    assert one["items_for_1_point"] > 200 or one["power_1_point"] >= 0.8
    assert (family["family"] == 3).all()
    assert family["power_1_point"].max() < one["power_1_point"] or one["power_1_point"] < 0.05


def test_unpaired_seeds_on_shared_items_are_tested_over_both(quickstart):
    sweep = open_sweep(quickstart)
    rows = {
        over: compare(sweep, "lr=1e-4", "lr=2e-4", match_on=["model", "example"], over=over).table.frame.iloc[
            0
        ]
        for over in ("seeds", "items", "both")
    }
    width = {over: row["high"] - row["low"] for over, row in rows.items()}
    assert len({round(row["difference"], 9) for row in rows.values()}) == 1
    assert width["both"] > 0.99 * max(width["seeds"], width["items"])


def test_verdicts_that_are_no_longer_there_leave_a_test_over_seeds(tmp_path):
    directory = write_sweep(tmp_path / "lean", quickstart_world(num_items=8))
    (directory / "items.parquet").unlink()
    sweep = open_sweep(directory)
    assert compare(sweep, "lr=1e-4", "lr=2e-4").table.frame["over"].tolist() == ["seeds"]
    with pytest.raises(UserError, match="verdicts per item"):
        compare(sweep, "lr=1e-4", "lr=2e-4", over="both")
    with pytest.raises(UserError, match="choose one of seeds, items, both"):
        compare(sweep, "lr=1e-4", "lr=2e-4", over="seed")
