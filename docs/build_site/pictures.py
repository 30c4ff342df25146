"""Draws the pictures of ``statistics.md``: ``python docs/build_site/pictures.py`` writes ``docs/pictures/``.

Each is a small simulation with a known truth, put through the functions that the tables use and drawn with
figures of the report. The random numbers are fixed, so that a page and its pictures say the same.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from analysis.output.encodings import extra, for_print  # noqa: E402
from analysis.output.figures import curves, dots, heatmap, scatter  # noqa: E402
from analysis.output.table import percent  # noqa: E402
from analysis.stats.anova import decompose  # noqa: E402
from analysis.stats.crossed import crossed_interval  # noqa: E402
from analysis.stats.heldout import held_out_best  # noqa: E402
from analysis.stats.intervals import SHARE, iqm_interval, mean_interval  # noqa: E402
from analysis.stats.power import student_power  # noqa: E402
from analysis.stats.testing import holm, paired_difference, unpaired_difference  # noqa: E402

FOLDER = ROOT / "docs" / "pictures"

SPREAD = 0.02
"""Standard deviation of an accuracy over seeds: two points, as in the quickstart sweep at 2e-4."""

HEIGHT = 180
"""Of a plot, in pixels."""


def seeds():
    """Means of one cell and their intervals, by the number of seeds: one truth, many studies."""
    rng = np.random.default_rng(11)
    rows = []
    for number in (4, 8, 16):
        found = mean_interval(rng.normal(0.85, SPREAD, (5, number)), bounds=SHARE)
        rows += [
            {"seeds": number + 0.25 * study, "mean": value, "low": low, "high": high}
            for study, (value, low, high) in enumerate(zip(found.value, found.low, found.high, strict=True))
        ]
    titles = {"x_title": "seeds; five studies beside each other", "y_title": "accuracy (%), truth 85"}
    return scatter(pd.DataFrame(rows), x="seeds", y="mean", share=True, height=HEIGHT, **titles)


def over():
    """One cell's interval over seeds, over items and over both."""
    rng = np.random.default_rng(2)
    hard_I, luck_S = rng.normal(1.8, 1.2, 200), rng.normal(0, 0.15, (8, 1))
    chance_SI = 1 / (1 + np.exp(-(hard_I + luck_S)))
    right_GSI = (rng.random((1, 8, 200)) < chance_SI).astype(float)
    rows = []
    for word in ("seeds", "items", "both"):
        found = crossed_interval(right_GSI, word, bounds=SHARE)
        rows.append({"over": word, "mean": found.value[0], "low": found.low[0], "high": found.high[0]})
    return dots(pd.DataFrame(rows), y="over", x="mean", x_title="accuracy (%)", share=True)


def pairs():
    """The same runs, compared seed by seed and as two heaps."""
    rng = np.random.default_rng(3)
    luck_S = rng.normal(0, SPREAD, 8)
    a_S, b_S = 0.84 + luck_S + rng.normal(0, 0.004, 8), 0.85 + luck_S + rng.normal(0, 0.004, 8)
    rows = []
    for name, test in (
        ("by seed", paired_difference(b_S - a_S)),
        ("as two heaps", unpaired_difference(a_S, b_S)),
    ):
        rows.append({"compared": name, "difference": test.mean, "low": test.low, "high": test.high})
    title = "B minus A (points), truth 1"
    return dots(pd.DataFrame(rows), y="compared", x="difference", x_title=title, zero=True, share=True)


def curse():
    """What the best of many equal cells seems to reach, and what it reaches on other seeds."""
    rng = np.random.default_rng(4)
    rows = []
    for number in (2, 5, 10, 20, 50, 100):
        found = [held_out_best(rng.normal(0.85, SPREAD, (number, 4))) for _ in range(60)]
        for name in ("apparent", "held_out"):
            values = np.array([getattr(one, name) for one in found if one is not None])
            error = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
            rows.append(
                {
                    "judged": "on the seeds that chose it" if name == "apparent" else "on other seeds",
                    "cells": number,
                    "mean": values.mean(),
                    "low": values.mean() - error,
                    "high": values.mean() + error,
                }
            )
    titles = {"x_title": "cells to choose from, all equally good", "y_title": "accuracy of the best (%)"}
    frame = pd.DataFrame(rows)
    return curves(frame, x="cells", y="mean", color="judged", share=True, height=HEIGHT, **titles)


def many():
    """How often at least one of many comparisons without any effect is called one."""
    rng = np.random.default_rng(5)
    rows = []
    for number in (1, 2, 5, 10, 20):
        p_MT = rng.random((2_000, number))
        claims = {
            "as they are": (p_MT < 0.05).any(axis=1),
            "after Holm": np.array([(holm(p) < 0.05).any() for p in p_MT]),
        }
        for name, claimed in claims.items():
            share = claimed.mean()
            half = 1.96 * np.sqrt(share * (1 - share) / len(claimed))
            rows.append(
                {"p": name, "comparisons": number, "mean": share, "low": share - half, "high": share + half}
            )
    titles = {"x_title": "comparisons, none of them of an effect", "y_title": "any false claim (%)"}
    frame = pd.DataFrame(rows)
    return scatter(frame, x="comparisons", y="mean", color="p", share=True, height=HEIGHT, **titles)


def middle():
    """Mean and interquartile mean of eight seeds of which one collapsed."""
    rng = np.random.default_rng(6)
    values_GS = rng.normal(0.85, 0.01, (1, 8))
    values_GS[0, 3] = 0.7
    rows = []
    for name, found in (("mean", mean_interval(values_GS)), ("middle half (IQM)", iqm_interval(values_GS))):
        rows.append(
            {"summary": name, "value": found.value[0], "low": found.low[0], "high": min(1.0, found.high[0])}
        )
    return dots(pd.DataFrame(rows), y="summary", x="value", x_title="accuracy (%)", share=True)


def shares():
    """What a difference between cells comes from, axis by axis, beside what seeds alone give."""
    rng = np.random.default_rng(7)
    lr_L, model_M = np.array([0.0, 0.03, 0.01, -0.1]), np.array([-0.02, 0.02])
    truth_C = (lr_L[:, None] + model_M[None, :]).ravel()
    levels_CA = np.array([(lr, model) for lr in range(4) for model in range(2)])
    found = decompose(0.85 + truth_C[:, None] + rng.normal(0, SPREAD, (8, 8)), levels_CA)
    names = {(0,): "learning rate", (1,): "model", (0, 1): "both together"}
    parts = {names[tuple(effect.axes)]: effect.share for effect in found.effects}
    parts["seeds"] = found.seed_share + found.noise_share
    frame = pd.DataFrame({"axis": list(parts), "share": list(parts.values()), "row": "share"})
    frame["text"] = [f"{percent(share)} %" for share in frame["share"]]
    titles = {"x_title": "where the variance of runs comes from", "y_title": ""}
    return heatmap(frame, x="axis", y="row", value="share", text="text", signed=False, **titles)


def power():
    """Chance that a difference of one point is seen, by the number of seeds and how much they scatter."""
    rows = []
    for deviation in (0.005, 0.01, 0.02):
        for number in (2, 3, 4, 6, 8, 12, 16):
            chance = student_power(0.01, deviation / np.sqrt(number), number - 1)
            rows.append(
                {
                    "pairs scatter by": f"{100 * deviation:g} points",
                    "seeds": number,
                    "mean": chance,
                    "low": chance,
                    "high": chance,
                }
            )
    titles = {"x_title": "matched seeds", "y_title": "chance to see 1 point (%)"}
    frame = pd.DataFrame(rows)
    return curves(frame, x="seeds", y="mean", color="pairs scatter by", share=True, height=HEIGHT, **titles)


PICTURES: dict[str, Callable[[], object]] = {
    "seeds": seeds,
    "over": over,
    "pairs": pairs,
    "curse": curse,
    "many": many,
    "middle": middle,
    "shares": shares,
    "power": power,
}
"""File below ``docs/pictures`` to what draws it."""


def drawn(name: str) -> str:
    """A picture as SVG."""
    spec = for_print(PICTURES[name]()).to_json(validate=False)
    return str(extra("vl_convert").vegalite_to_svg(spec))


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for each in PICTURES:
        (FOLDER / f"{each}.svg").write_text(drawn(each))
        print(f"docs/pictures/{each}.svg")
