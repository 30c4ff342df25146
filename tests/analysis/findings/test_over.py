"""What the intervals of findings generalise over: items too wherever a quantity has them, and it is said."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from analysis import open_sweep
from analysis.findings import find
from analysis.findings.sharpening import pass_at_k
from analysis.stats.crossed import crossed_interval
from analysis.stats.intervals import CHANGE
from analysis.tables.best_cells import best_cells
from analysis.tables.cell_table import cell_table
from tests.analysis.synthetic import quickstart_world, write_sweep

AXES = {
    "model": ("tiny-64", "tiny-32"),
    "example": ("unsure", "carry", "short"),
    "optim.lr": (1e-4, 2e-4),
    "objective.temperature": (0.5, 1.0),
    "seed": tuple(range(4)),
}

BOTH, SEEDS_ONLY = "over seeds and items (Student-t)", "over seeds (Student-t) only"


@pytest.fixture(scope="module")
def few_items(tmp_path_factory):
    """Four seeds × 24 items × 4 samples: what other items would give is most of what is not known."""
    world = quickstart_world(
        axes=AXES,
        num_items=24,
        num_samples=4,
        eval_temperatures=(1.0, 0.6),
        eval_steps=(0, 10),
        item_steps=(0, 10),
        logit_stats=True,
        failed=0.03,
    )
    return open_sweep(write_sweep(tmp_path_factory.mktemp("few") / "few", world))


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    axes = {"example.rows": tuple(range(9)), "model": ("tiny-64", "tiny-32"), "seed": tuple(range(4))}
    world = quickstart_world(axes=axes, num_items=24, eval_steps=(0, 10), item_steps=(0, 10))
    directory = write_sweep(tmp_path_factory.mktemp("pool") / "pool", world)
    runs = pd.read_parquet(directory / "runs.parquet")
    runs["first_entropy_nats"] = 0.1 + 0.01 * runs["example.rows"].astype(int)
    runs.to_parquet(directory / "runs.parquet", index=False)
    return open_sweep(directory)


def gains(sweep, by, metric="accuracy_sampled", over="both"):
    """The gains of the table of cells with their ends, by the axis ``by``."""
    return cell_table(sweep, by=[by], metric=metric, over=over).frame.set_index(by)[
        ["gain", "gain_low", "gain_high"]
    ]


def same(frame, expected):
    assert frame[["gain", "low", "high"]].to_numpy() == pytest.approx(expected.to_numpy(), abs=1e-7)


def test_gains_of_examples_are_those_of_the_table_over_seeds_and_items(few_items):
    finding = find(few_items, "examples")
    at = re.search(r"at (\S+) \(best mean gain\)", finding.table.title)[1]
    frame = finding.table.frame.set_index("example")
    expected = gains(few_items.where(at), "example").loc[frame.index]
    same(frame, expected)
    assert not np.allclose(frame["low"], gains(few_items.where(at), "example", over="seeds")["gain_low"])
    assert all(BOTH in text for text in (finding.table.notes[0], finding.figure.caption))
    low, high = 100 * expected.iloc[0][["gain_low", "gain_high"]]
    assert f"points [{low:+.1f}, {high:+.1f}])" in finding.sentences[0]


def test_gains_under_each_temperature_are_those_of_the_table_over_seeds_and_items(few_items):
    finding = find(few_items, "temperature")
    sweep = few_items.where(re.search(r"at (\S+) \(best mean gain\)", finding.table.title)[1])
    frame = finding.table.frame.set_index("train")
    for evaluation, metric in (
        ("greedy", "accuracy_greedy"),
        ("sampled at T=0.6", "accuracy_sampled_t0.6"),
        ("sampled at T=1", "accuracy_sampled"),
    ):
        same(frame[frame["evaluation"] == evaluation], gains(sweep, "objective.temperature", metric))
    assert BOTH in finding.table.notes[0]
    assert all(re.search(r"points \[[-+.\d]+, [-+.\d]+\]\)\.", text) for text in finding.sentences)


def test_the_entropy_finding_says_that_only_the_gain_is_over_items(few_items):
    finding = find(few_items, "entropy")
    assert BOTH in finding.table.notes[0]
    assert "without an interval, for it is of no item" in finding.table.notes[0]
    frame = finding.table.frame
    sweep = few_items.where(re.search(r"at (\S+) \(best mean gain\)", finding.sentences[0])[1])
    row = frame[(frame["model"] == "tiny-32") & (frame["example"] == "carry")]
    same(row, gains(sweep.where("model=tiny-32"), "example").loc[["carry"]])


@pytest.mark.parametrize("k", [1, 2, 4])
def test_the_change_of_pass_at_k_is_crossed_over_seeds_and_items(tmp_path, k):
    world = quickstart_world(num_items=24, num_samples=4, eval_steps=(0, 10), item_steps=(0, 10))
    sweep = open_sweep(write_sweep(tmp_path / "whole", world))
    frame = find(sweep, "sharpening").table.frame
    row = frame[(frame["optim.lr"] == 2e-4) & (frame["k"] == k)].iloc[0]
    items = sweep.where("lr=2e-4").items()
    rate = np.stack([pass_at_k(np.asarray(correct), 4, k) for correct in items["correct"]])
    sampled = (items["mode"] == "sampled").to_numpy()
    after, base = (
        np.stack(
            [rate[sampled & (items["step"] == step) & (items["seed"] == s)].mean(axis=0) for s in range(4)]
        )
        for step in (10, 0)
    )
    by_hand = crossed_interval((after - base)[None], "both", bounds=CHANGE, verdicts=6)
    assert row[["change", "low", "high"]].tolist() == pytest.approx(
        [by_hand.value[0], by_hand.low[0], by_hand.high[0]], abs=1e-6
    )


def test_the_gain_of_form_is_over_seeds_and_items_and_its_parts_say_that_they_are_not(few_items):
    finding = find(few_items, "form")
    frame = finding.table.frame.rename(columns={"gain_low": "low", "gain_high": "high"})
    same(frame, gains(few_items, "optim.lr"))
    note = finding.table.notes[0]
    assert f"Gain: 95 % interval {BOTH}" in note
    assert f"By form, by content: 95 % interval {SEEDS_ONLY}" in note
    assert SEEDS_ONLY in finding.figure.caption
    assert all(re.search(r"points \[[-+.\d]+, [-+.\d]+\], ", text) for text in finding.sentences)


def test_gains_of_rules_that_pick_are_over_seeds_and_items(pool):
    finding = find(pool, "picking")
    frame = finding.table.frame.set_index("rule")
    by_example = gains(pool, "example.rows")
    for rule, example in (("highest initial entropy, nats", 8), ("lowest initial entropy, nats", 0)):
        same(frame.loc[[rule]], by_example.loc[[example]])
    everything = cell_table(pool, by=[], metric="accuracy_sampled", over="both").frame
    same(frame.loc[["at random"]], everything[["gain", "gain_low", "gain_high"]])
    assert BOTH in finding.table.notes[0]
    assert "regret are over seeds only, of gains on these items" in finding.table.notes[0]
    assert BOTH in finding.figure.caption


@pytest.mark.parametrize("name", ["examples", "entropy"])
def test_without_items_intervals_are_over_seeds_and_say_so(tmp_path, name):
    directory = write_sweep(tmp_path / "none", quickstart_world(num_items=12, eval_steps=(0, 10)))
    (directory / "items.parquet").unlink()
    sweep = open_sweep(directory)
    finding = find(sweep, name)
    assert "95 % interval over seeds (Student-t)" in finding.table.notes[0]
    assert "items (Student-t)" not in finding.table.notes[0] + finding.figure.caption
    if name == "examples":
        at = re.search(r"at (\S+) \(best mean gain\)", finding.table.title)[1]
        frame = finding.table.frame.set_index("example")
        same(frame, gains(sweep.where(at), "example", over="seeds").loc[frame.index])


def test_one_seed_has_no_interval_and_no_claim(few_items):
    one = few_items.where("seed=0")
    assert "points [no interval]" in find(one, "examples").sentences[0]
    assert all("[no interval]" in text for text in find(one, "temperature").sentences)
    assert not any("both rise" in text for text in find(one, "sharpening").sentences)


def test_what_has_no_items_says_that_it_is_over_seeds_only(few_items):
    logits = find(few_items, "logits")
    assert f"{SEEDS_ONLY}: the moments are of all positions" in logits.table.notes[0]
    assert all("] over seeds: " in text for text in logits.sentences)
    assert "at least 95 % CI, over seeds only" in best_cells(few_items).sentence
