"""Which way do the raw logits shift: is their skewness higher after training than before?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from analysis.data.axes import cell_label
from analysis.data.columns import RunArrays
from analysis.data.sweep import SweepData
from analysis.data.views import literal
from analysis.findings.base import Finding, runs_and_seeds
from analysis.output import figures
from analysis.output.figure import Figure
from analysis.output.table import SEEDS, ReportColumn, ReportTable, interval_column
from analysis.tables.cell_table import headline_axis
from analysis.tables.seed_values import OVER_SEEDS, SeedGroups

_finding = partial(
    Finding,
    key="logits",
    question="Are the logits skewed to the right after training, on their own text and on shared text?",
)

FIRST_EDGE, BIN_WIDTH = -40.0, 0.5
"""Bins as :mod:`trainers.step.logit_stats` records them: bin k ends at FIRST_EDGE + k × BIN_WIDTH."""

_NAMES = {
    ("base", "own"): "base, own text",
    ("tuned", "own"): "tuned, own text",
    ("tuned", "shared"): "tuned, base's text",
}


def logits(sweep: SweepData) -> Finding:
    """Skewness of raw logits, base and tuned, per value of the headline axis."""
    if not sweep.has("logits"):
        return _finding(
            missing="moments and histograms of raw logits; launch with eval.logit_stats=true",
        )
    by = headline_axis(sweep)
    columns = sweep.columns()
    arranged = SeedGroups(columns, by)
    skewness = _skewness(columns)
    shown = pd.concat(
        arranged.estimate(value_R, "skewness").assign(state=state, text=text)
        for (state, text), value_R in skewness.items()
    ).sort_values([*by, "state", "text"], ignore_index=True)
    shown["which"] = [
        _NAMES.get((m, t), f"{m}, {t}") for m, t in zip(shown["state"], shown["text"], strict=True)
    ]
    return _finding(
        sentences=tuple(_sentences(arranged, skewness, by)),
        table=ReportTable(
            title="Skewness of raw logits",
            frame=shown,
            layout=(
                *(ReportColumn(header=key, source=key) for key in by),
                ReportColumn(header="logits of", source="which"),
                interval_column("skewness", "skewness", "number"),
                SEEDS,
            ),
            notes=(
                "Population skewness of all raw logits at completion positions, before temperature and any "
                "processing. The base's text shows the tuned model on the same tokens as the base. "
                f"{OVER_SEEDS} only: the moments are of all positions of a run together, of no item.",
            ),
        ),
        figure=_figure(sweep),
    )


def _skewness(columns: RunArrays) -> dict[tuple[str, str], np.ndarray]:
    """Skewness of each run, by whose logits they are and on which text."""
    pairs = columns.rows("SELECT DISTINCT state, text FROM logits ORDER BY ALL").to_pylist()
    return {
        (pair["state"], pair["text"]): columns.per_run(
            f"SELECT {columns.identity}, avg(skewness) AS skewness FROM logits "
            f"WHERE state = {literal(pair['state'])} AND text = {literal(pair['text'])} GROUP BY ALL"
        )["skewness"]
        for pair in pairs
    }


def _sentences(
    arranged: SeedGroups, skewness: Mapping[tuple[str, str], np.ndarray], by: Sequence[str]
) -> list[str]:
    if not {("base", "own"), ("tuned", "shared")} <= set(skewness):
        return []
    result = arranged.estimate(skewness["tuned", "shared"] - skewness["base", "own"], "shift")
    sentences = []
    for row in result.to_dict("records"):
        where = cell_label({by[0]: row[by[0]]}) if by else "All runs"
        way = "right" if row["low"] > 0 else "left" if row["high"] < 0 else "neither way beyond noise"
        sentences.append(
            f"{where}: on the base model's text the skewness moves by {row['shift']:+.3f} "
            f"[{row['low']:+.3f}, {row['high']:+.3f}] over seeds: {way}."
        )
    return sentences


def _figure(sweep: SweepData) -> Figure:
    """Histograms of all runs together, every logit counting once."""
    counted = sweep.query(
        """
        SELECT state, text, first_bin + place AS bin, sum(count) AS count FROM (
            SELECT state, text, first_bin, unnest(histogram) AS count,
                   unnest(range(len(histogram))) AS place FROM logits)
        GROUP BY ALL ORDER BY state, text, bin
        """
    )
    parts = []
    for (state, text), part in counted.groupby(["state", "text"], sort=False):
        share = (part["count"] / part["count"].sum()).astype(float)
        logit = FIRST_EDGE + (part["bin"] - 1) * BIN_WIDTH
        parts.append(
            pd.DataFrame({"logit": logit, "share": share, "logits of": _NAMES.get((state, text), text)})
        )
    chart = figures.bars(
        pd.concat(parts),
        x="logit",
        y="share",
        x_title="raw logit",
        y_title="share of logits",
        color="logits of",
    )
    return Figure(chart=chart, caption=f"Histograms of raw logits over all runs; {runs_and_seeds(sweep)}.")
