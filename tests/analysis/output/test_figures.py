"""Figures can be printed: legible at a page's width, in words, without colour, whatever collapses."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from analysis import open_sweep
from analysis.findings import FINDINGS, find
from analysis.output import figures
from analysis.output.collapsed import split_collapsed
from analysis.output.figure import Figure
from analysis.output.words import axis_words
from tests.analysis.synthetic import World, write_sweep

PAGE_POINTS = 6.5 * 72


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Nine rates of which the last collapse, ten examples with long names, several temperatures."""
    axes = {
        "model": ("tiny-32", "tiny-64"),
        "example": tuple(f"an-example-with-a-long-name-{i}" for i in range(10)),
        "optim.lr": (1e-5, 2e-5, 3e-5, 5e-5, 1e-4, 1.5e-4, 2e-4, 3e-4, 1e-3),
        "objective.temperature": (0.5, 1.0),
        "seed": (0, 1),
    }
    world = World(
        axes=axes,
        num_items=20,
        num_samples=8,
        eval_temperatures=(1.0, 0.6),
        rollouts=True,
        logit_stats=True,
    )
    return open_sweep(write_sweep(tmp_path_factory.mktemp("figures") / "s", world))


def _smallest_label_points(svg: str) -> float:
    width = float(re.search(r'<svg[^>]* width="([0-9.]+)', svg)[1])
    sizes = [float(size) for size in re.findall(r'font-size="([\d.]+)px"', svg)]
    return min(sizes) * min(1.0, PAGE_POINTS / width)


@pytest.mark.parametrize("name", [name for name in FINDINGS if name not in ("order", "rounds")])
def test_every_label_has_seven_points_at_six_and_a_half_inches(sweep, name):
    assert _smallest_label_points(find(sweep, name).figure.svg()) >= 7


@pytest.mark.parametrize("name", [name for name in FINDINGS if name not in ("order", "rounds")])
def test_figures_speak_in_words_and_units(sweep, name):
    svg = find(sweep, name).figure.svg()
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    keys = [t for t in texts if re.search(r"optim\.lr|objective\.|accuracy_|gain_|_nats", t)]
    assert not keys


def test_axes_name_metric_and_unit(sweep):
    svg = find(sweep, "decoupling").figure.svg()
    assert "accuracy, sampled (%)" in svg
    assert "learning rate" in svg
    assert "initial entropy (nats)" in find(sweep, "entropy").figure.svg()
    assert "change of accuracy (points)" in find(sweep, "form").figure.svg()
    assert axis_words("schedule.decay_fraction") == "decay fraction"


def _frame(levels, steps=(1, 2, 3)):
    rows = [
        {"lr": name, "step": s, "y": mean + 0.01 * s, "low": mean, "high": mean + 0.05}
        for name, mean in levels.items()
        for s in steps
    ]
    return pd.DataFrame(rows)


def _curves(frame):
    chart = figures.curves(frame, x="step", y="y", color="lr", x_title="step", y_title="score")
    return Figure(chart=chart, caption="")


def test_groups_are_told_apart_without_colour():
    svg = _curves(_frame({"a": 0.1, "b": 0.2, "c": 0.3})).svg()
    assert len(set(re.findall(r'stroke-dasharray="([\d,.]+)"', svg))) >= 2
    outlines = {re.sub(r"-?\d+(\.\d+)?", "#", path) for path in re.findall(r' d="(M[^"]{10,120}Z)"', svg)}
    assert len(outlines) >= 3  # circle, square, triangle


def test_the_best_seven_groups_are_drawn_not_the_first():
    frame = _frame({f"g{i}": 0.1 * i for i in range(10)})
    kept, said = figures.keep_groups(frame, "lr", "y")
    assert sorted(set(kept["lr"])) == [f"g{i}" for i in range(3, 10)]
    assert said == " Shown are the best 7 of 10 values of lr."
    smallest, _ = figures.keep_groups(frame, "lr", "y", smallest=True)
    assert sorted(set(smallest["lr"])) == [f"g{i}" for i in range(7)]


def test_a_collapsed_group_does_not_squeeze_the_rest():
    near, far = split_collapsed(_frame({"a": 0.80, "b": 0.85, "c": 0.82, "d": 0.05}), "lr", "low", "high")
    assert set(near["lr"]) == {"a", "b", "c"}
    assert set(far["lr"]) == {"d"}
    svg = _curves(_frame({"a": 0.80, "b": 0.85, "c": 0.82, "d": 0.05})).svg()
    assert "a scale of its own" in svg
    rows = _frame({"a": 0.80, "b": 0.85, "c": -0.7}, steps=(1,))
    dots = figures.dots(rows, y="lr", x="y", x_title="gain", zero=True)
    assert "a scale of its own" in Figure(chart=dots, caption="").svg()


@pytest.mark.parametrize(
    "levels",
    [{"a": 0.1}, {"a": 0.1, "b": 0.3}, {"a": 0.1, "b": 0.3, "c": 0.5, "d": 0.7}, {"a": 0.5, "b": 0.5}],
)
def test_groups_that_spread_evenly_share_one_panel(levels):
    assert split_collapsed(_frame(levels), "lr", "low", "high")[1] is None


def test_a_group_that_falls_from_among_the_rest_is_set_apart():
    frame = _frame({"a": 0.80, "b": 0.85})
    falling = pd.DataFrame({"lr": "c", "step": [1, 2, 3], "y": [0.8, 0.4, 0.1]})
    frame = pd.concat([frame, falling.assign(low=falling["y"], high=falling["y"])], ignore_index=True)
    assert set(split_collapsed(frame, "lr", "low", "high")[1]["lr"]) == {"c"}


def test_a_group_without_values_is_kept_and_breaks_nothing():
    frame = _frame({"a": 0.80, "b": np.nan, "c": 0.82, "d": 0.1})
    near, _ = split_collapsed(frame, "lr", "low", "high")
    assert set(near["lr"]) == {"a", "b", "c"}
    assert _curves(frame).svg().startswith("<svg")
