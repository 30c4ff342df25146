from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from analysis import open_sweep
from analysis.findings import FINDINGS, find, find_all
from analysis.findings.ranks import rank_correlation
from analysis.findings.sharpening import pass_at_k
from analysis.output.figure import Figure
from analysis.output.table import percent
from sweeps.spec.errors import UserError
from tests.analysis.synthetic import quickstart_world, write_sweep

RICH_AXES = {
    "model": ("tiny-64", "tiny-32"),
    "example": ("unsure", "carry", "short"),
    "optim.lr": (1e-4, 2e-4, 1e-3),
    "objective.temperature": (0.5, 1.0),
    "seed": tuple(range(4)),
}

ANSWERED_BY_RICH = [name for name in FINDINGS if name not in ("order", "picking", "rounds")]
"""Analyses whose inputs the sweep below records; the other three have tests of their own."""


@pytest.fixture(scope="module")
def rich(tmp_path_factory):
    """A sweep that records what most questions need."""
    world = quickstart_world(
        axes=RICH_AXES,
        num_items=60,
        num_samples=8,
        eval_temperatures=(1.0, 0.6),
        rollouts=True,
        logit_stats=True,
        failed=0.02,
    )
    return open_sweep(write_sweep(tmp_path_factory.mktemp("rich") / "rich", world))


def test_there_are_twelve_questions():
    assert len(FINDINGS) == 12


@pytest.mark.parametrize("name", ANSWERED_BY_RICH)
def test_a_question_with_its_inputs_is_answered_by_sentence_table_and_figure(rich, name):
    finding = find(rich, name)
    assert finding.missing is None
    assert finding.sentences
    assert len(finding.table.frame)
    assert finding.table.notes
    assert finding.figure.svg().startswith("<svg")
    assert "runs" in finding.figure.caption


@pytest.mark.parametrize("name", list(FINDINGS))
def test_no_figure_draws_a_mark_per_run(rich, name):
    figure = find(rich, name).figure
    if figure is None:
        return
    spec = figure.chart.to_dict()
    assert all(len(rows) < 200 for rows in spec.get("datasets", {}).values())


def test_a_question_without_its_inputs_says_what_to_record(quickstart, tmp_path):
    missing = {f.key: f.missing for f in find_all(open_sweep(quickstart)) if f.missing}
    assert set(missing) == {"temperature", "logits", "sharpening", "picking", "order", "rounds"}
    assert "eval.temperatures" in missing["temperature"]
    assert "eval.logit_stats=true" in missing["logits"]
    assert "eval.num_samples" in missing["sharpening"]
    assert "init_from" in missing["order"]


def test_a_sweep_that_has_not_begun_answers_nothing_and_breaks_nothing(tmp_path):
    directory = write_sweep(tmp_path / "empty", quickstart_world(num_items=4, pending=1.0))
    for name in ("runs", "steps", "items"):
        (directory / f"{name}.parquet").unlink()
    assert all(finding.missing for finding in find_all(open_sweep(directory)))


def test_an_unknown_question_names_the_nearest(rich):
    with pytest.raises(UserError, match='did you mean "decoupling"'):
        find(rich, "decuopling")


def test_decoupling_finds_peak_and_collapse_step(rich):
    frame = find(rich, "decoupling").table.frame.set_index("optim.lr")
    steps = rich.steps(["optim.lr", "step", "accuracy_sampled", "outcome"])
    curve = (
        steps[(steps["optim.lr"] == 1e-3) & (steps["outcome"] == "done")]
        .groupby("step")["accuracy_sampled"]
        .mean()
    )
    curve = curve.dropna()
    assert frame.loc[1e-3, "peak_step"] == curve.idxmax()
    assert frame.loc[1e-3, "collapse_step"] == 5
    assert frame.loc[1e-3, "below_base_step"] == 5
    assert np.isnan(frame.loc[2e-4, "collapse_step"])
    assert frame.loc[1e-3, "loss_change"] < 0


def test_a_curve_that_never_rises_is_called_so(tmp_path):
    directory = write_sweep(tmp_path / "worse", quickstart_world(num_items=100))
    steps = pq.read_table(directory / "steps.parquet")
    accuracy = [
        None if v is None else 0.9 - 0.05 * s
        for s, v in zip(steps["step"].to_pylist(), steps["accuracy_sampled"].to_pylist(), strict=True)
    ]
    position = steps.column_names.index("accuracy_sampled")
    steps = steps.set_column(position, "accuracy_sampled", pa.array(accuracy, pa.float64()))
    pq.write_table(steps, directory / "steps.parquet")
    runs = pd.read_parquet(directory / "runs.parquet").assign(accuracy_sampled=0.9 - 0.05 * 10)
    runs.to_parquet(directory / "runs.parquet", index=False)
    (directory / "items.parquet").unlink()
    sentences = find(open_sweep(directory), "decoupling").sentences
    assert all("never above the base model; ends 50.0 points below" in s for s in sentences)


def test_two_points_have_no_rank_correlation(quickstart):
    sweep = open_sweep(quickstart).where("model=tiny-64", "example=carry,short")
    assert "cannot be told" in find(sweep, "entropy").sentences[0]


def test_the_baseline_is_said_to_be_better_where_it_is(rich):
    sentences = find(rich, "baseline").sentences
    assert any(
        "points below the best base protocol" in s or "points above the best base protocol" in s
        for s in sentences
    )


def test_the_expected_best_of_k_seeds_is_the_mean_over_all_subsets(rich):
    from analysis.findings.seeds import _best_of

    values = np.random.default_rng(0).normal(size=(3, 6))
    boxed = _best_of(values, 1).set_index("k")["best"]
    for k in range(1, 7):
        by_hand = np.mean(
            [[max(row[list(s)]) for s in itertools.combinations(range(6), k)] for row in values]
        )
        assert boxed[k] == pytest.approx(by_hand)


def test_seed_spread_is_the_pooled_deviation_within_cells(rich):
    frame = find(rich, "seeds").table.frame.set_index("optim.lr")
    runs = rich.runs()
    part = runs[(runs["optim.lr"] == 2e-4) & (runs["outcome"] == "done")]
    by_cell = part.groupby("cell")["accuracy_sampled"]
    pooled = np.sqrt((by_cell.var(ddof=1) * (by_cell.size() - 1)).sum() / (by_cell.size() - 1).sum())
    assert frame.loc[2e-4, "deviation"] == pytest.approx(pooled)


def test_the_temperature_table_crosses_training_and_evaluation(rich):
    frame = find(rich, "temperature").table.frame
    assert set(frame["train"]) == {0.5, 1.0}
    assert list(dict.fromkeys(frame["evaluation"])) == ["greedy", "sampled at T=0.6", "sampled at T=1"]
    assert len(frame) == 6


def test_the_logit_shift_is_the_planted_one(rich):
    sentences = find(rich, "logits").sentences
    assert all(s.endswith("right.") for s in sentences)
    frame = find(rich, "logits").table.frame
    tuned = frame[(frame["which"] == "tuned, base's text") & (frame["optim.lr"] == 2e-4)]
    assert tuned["skewness"].iloc[0] == pytest.approx(1.5, abs=0.03)


def test_logits_named_model_by_the_trainer_do_not_shadow_the_axis(quickstart, tmp_path):
    import shutil

    directory = shutil.copytree(quickstart, tmp_path / "named")
    rows = {
        "index": pa.array([0, 0, 0]),
        "run_id": pa.array(["r"] * 3),
        "model": pa.array(["base", "tuned", "tuned"]),
        "text": pa.array(["own", "own", "shared"]),
        "skewness": pa.array([1.0, 2.0, 1.5]),
        "first_bin": pa.array([10, 10, 10]),
        "histogram": pa.array([[1, 2]] * 3, pa.list_(pa.int64())),
    }
    pq.write_table(pa.table(rows), directory / "logits.parquet")
    frame = open_sweep(directory).query("SELECT model, state, skewness FROM logits ORDER BY skewness")
    assert frame["state"].tolist() == ["base", "tuned", "tuned"]
    assert set(frame["model"]) == {"tiny-64"}


@pytest.mark.parametrize("n", [2, 8, 16])
def test_pass_at_k_is_the_share_of_subsets_with_a_right_sample(n):
    for c in range(n + 1):
        for k in (1, 2, n):
            right = [True] * c + [False] * (n - c)
            subsets = list(itertools.combinations(right, k)) if n <= 8 else None
            expected = np.mean([any(s) for s in subsets]) if subsets else 1 - stats.hypergeom(n, c, k).pmf(0)
            assert pass_at_k(np.array([c]), n, k)[0] == pytest.approx(expected)


def test_sharpening_rates_are_those_of_the_stored_verdicts(rich):
    frame = find(rich, "sharpening").table.frame
    row = frame[(frame["optim.lr"] == 2e-4) & (frame["k"] == 8)].iloc[0]
    items = rich.where("lr=2e-4").items()
    sampled = items[
        (items["mode"] == "sampled") & (items["temperature"] == 1.0) & (items["outcome"] == "done")
    ]
    after = sampled[sampled["step"] == 10]
    by_seed = [np.mean([np.asarray(v) > 0 for v in part["correct"]]) for _, part in after.groupby("seed")]
    assert row["after"] == pytest.approx(np.mean(by_seed))
    assert frame[(frame["optim.lr"] == 2e-4) & (frame["k"] == 1)]["change"].iloc[0] > 0


def test_sharpening_finds_a_planted_crossing(tmp_path):
    """After training every item is always right or never: pass@1 rises, pass@8 falls."""
    finding = find(open_sweep(_sharpened(tmp_path / "sharp", num_items=80)), "sharpening")
    assert all("sharpening: the curves cross at k=2" in s for s in finding.sentences)


def test_a_crossing_that_other_items_might_not_show_is_not_claimed(tmp_path):
    """All seeds agree to the last verdict, so that over seeds alone any number of items would do."""
    finding = find(open_sweep(_sharpened(tmp_path / "few", num_items=20)), "sharpening")
    first = finding.table.frame.iloc[0]
    assert (first["k"], first["change"]) == (1, pytest.approx(0.2))
    assert first["low"] < 0
    assert not any("sharpening" in s or "both rise" in s for s in finding.sentences)
    assert "over seeds and items" in finding.table.notes[0]


def _sharpened(directory, num_items):
    """Seven of ten items always right after training and the others never; half of each's samples before."""
    world = quickstart_world(num_items=num_items, num_samples=8, eval_steps=(0, 10), item_steps=(0, 10))
    write_sweep(directory, world)
    items = pq.read_table(directory / "items.parquet")
    correct = []
    for step, mode, values in zip(
        items["step"].to_pylist(), items["mode"].to_pylist(), items["correct"].to_pylist(), strict=True
    ):
        if mode == "sampled":
            values = [8 * (i % 10 < 7) if step else 4 for i in range(num_items)]
        correct.append(values)
    position = items.column_names.index("correct")
    items = items.set_column(position, "correct", pa.array(correct, pa.list_(pa.int32())))
    pq.write_table(items, directory / "items.parquet")
    return directory


def test_form_and_content_add_up_to_the_gain(rich):
    frame = find(rich, "form").table.frame
    assert (frame["form"] + frame["content"]).tolist() == pytest.approx(frame["gain"].tolist())


def test_a_gain_that_is_all_form_is_called_so(tmp_path):
    world = quickstart_world(num_items=10, eval_steps=(0, 10), item_steps=(0, 10))
    directory = write_sweep(tmp_path / "form", world)
    items = pq.read_table(directory / "items.parquet")
    late = [bool(s) for s in items["step"].to_pylist()]
    boxed = [[1] * 10 if s else [1] * 5 + [0] * 5 for s in late]
    right = [[1, 0] * 5 if s else [1, 0, 1, 0, 0] + [0] * 5 for s in late]  # 50 % and 40 % of the found
    for name, lists in (("boxed", boxed), ("correct", right)):
        position = items.column_names.index(name)
        items = items.set_column(position, name, pa.array(lists, pa.list_(pa.int32())))
    pq.write_table(items, directory / "items.parquet")
    frame = find(open_sweep(directory), "form").table.frame
    assert frame["form"].tolist() == pytest.approx([0.5 * 0.45] * len(frame))
    assert frame["content"].tolist() == pytest.approx([0.75 * 0.1] * len(frame))


@pytest.mark.parametrize("n", [4, 7, 30])
def test_the_rank_correlation_is_scipys(n):
    rng = np.random.default_rng(n)
    x = pd.Series(rng.normal(size=n))
    y = x + rng.normal(size=n)
    rho, p = rank_correlation(x, y)
    theirs = stats.spearmanr(x, y)
    assert rho == pytest.approx(theirs.statistic)
    if n <= 7:
        exact = stats.permutation_test(
            (x,), lambda v: stats.spearmanr(v, y).statistic, permutation_type="pairings", n_resamples=np.inf
        )
        assert p == pytest.approx(exact.pvalue)
    else:
        assert p == pytest.approx(theirs.pvalue, abs=0.02)


def test_examples_are_ranked_and_their_statistics_looked_up(rich):
    finding = find(rich, "examples")
    frame = finding.table.frame
    assert frame["gain"].is_monotonic_decreasing
    assert frame["entropy"].notna().all()
    runs = rich.runs()
    entropy = runs.groupby("example", observed=True)["first_entropy_nats"].mean()
    assert frame.set_index("example")["entropy"].to_dict() == pytest.approx(entropy.to_dict())
    assert frame["disagreement"].notna().all()


def test_rules_that_pick_examples_are_tested_against_the_first(tmp_path):
    axes = {
        "example.rule": ("random", "length", "entropy"),
        "optim.lr": (1e-4, 2e-4),
        "seed": (0, 1, 2, 3),
    }
    sweep = open_sweep(write_sweep(tmp_path / "rules", quickstart_world(axes=axes, num_items=20)))
    finding = find(sweep, "examples")
    best = sweep.runs().astype({"example.rule": str})
    best = best[best["optim.lr"] == best.groupby("optim.lr")["gain_sampled"].mean().idxmax()]
    gain = best.groupby("example.rule")["gain_sampled"].mean()
    assert finding.table.frame.set_index("example")["gain"].to_dict() == pytest.approx(gain.to_dict())
    assert finding.sentences[0].startswith("Best rule")
    difference = 100 * (gain["length"] - gain["random"])
    assert any(
        s.startswith(f"example.rule=length minus example.rule=random: {difference:+.1f} points")
        for s in finding.sentences
    )


def test_the_baseline_audit_counts_each_base_model_once_per_seed(rich):
    frame = find(rich, "baseline").table.frame
    assert set(frame["n"]) == {4}
    runs = rich.runs()
    row = frame[(frame["model"] == "tiny-64") & (frame["protocol"] == "greedy, math-verify")].iloc[0]
    assert row["accuracy"] == pytest.approx(
        runs.loc[runs["model"] == "tiny-64", "base_accuracy_greedy"].mean()
    )


def test_order_compares_every_recipe_with_the_first(tmp_path):
    directory = write_sweep(tmp_path / "merged", quickstart_world(num_items=10))
    assert find(open_sweep(directory), "order").missing
    for name in ("runs", "manifest"):
        table = pq.read_table(directory / f"{name}.parquet")
        names = ["merge.alpha" if c == "optim.lr" else c for c in table.column_names]
        metadata = {
            k: v.replace(b"optim.lr", b"merge.alpha") for k, v in (table.schema.metadata or {}).items()
        }
        pq.write_table(
            table.rename_columns(names).replace_schema_metadata(metadata), directory / f"{name}.parquet"
        )
    finding = find(open_sweep(directory), "order")
    assert finding.missing is None
    assert len(finding.sentences) == 4
    assert finding.figure.svg().startswith("<svg")


def test_order_sets_each_two_stages_against_their_reverse(tmp_path):
    axes = {
        "init_from": ("base", "objective=em", "objective=em_ft"),
        "objective": ("em", "em_ft"),
        "seed": (0, 1, 2, 3),
    }
    sweep = open_sweep(write_sweep(tmp_path / "orders", quickstart_world(axes=axes, num_items=20)))
    finding = find(sweep, "order")
    runs = sweep.runs().astype({"init_from": str, "objective": str})
    mean = runs.groupby(["init_from", "objective"])["accuracy_sampled"].mean()
    difference = mean["objective=em_ft", "em"] - mean["objective=em", "em_ft"]
    swapped = [s for s in finding.sentences if "minus init_from=objective=em objective=em_ft" in s]
    assert len(swapped) == 1
    assert f": {percent(difference, signed=True)} points" in swapped[0]
    assert len(finding.sentences) == 1 + 1 + 4


def test_order_says_what_it_can_of_a_sweep_under_way(tmp_path):
    axes = {"init_from": ("base", "objective=em"), "objective": ("em", "em_ft"), "seed": (0, 1)}
    directory = write_sweep(tmp_path / "begun", quickstart_world(axes=axes, num_items=8))
    runs = pd.read_parquet(directory / "runs.parquet")
    runs.loc[runs["init_from"] != "base", "accuracy_sampled"] = np.nan
    runs.to_parquet(directory / "runs.parquet", index=False)
    assert len(find(open_sweep(directory), "order").sentences) == 1


@pytest.mark.parametrize("ending", ["svg", "png", "pdf"])
def test_figures_are_written_without_a_browser(rich, tmp_path, ending):
    path = tmp_path / f"figure.{ending}"
    find(rich, "temperature").figure.save(path)
    starts = {"svg": b"<svg", "png": b"\x89PNG", "pdf": b"%PDF"}
    assert path.read_bytes().startswith(starts[ending])


def test_an_unknown_figure_format_is_refused(rich, tmp_path):
    figure = find(rich, "temperature").figure
    assert isinstance(figure, Figure)
    with pytest.raises(UserError, match="use svg, png, pdf"):
        figure.save(tmp_path / "figure.gif")
