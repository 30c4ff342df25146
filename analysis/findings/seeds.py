"""How far do seeds differ, and what does the best of several seeds promise?"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from scipy import special

from analysis.data.axes import cell_label, is_absent
from analysis.data.sweep import SweepData
from analysis.findings.base import Finding, has_metric, runs_and_seeds
from analysis.output import figures
from analysis.output.encodings import PRINT_PX
from analysis.output.figure import Figure
from analysis.output.table import (
    ReportColumn,
    ReportTable,
    change_kind,
    in_numbers,
    unit_of_change,
    value_kind,
)
from analysis.stats.intervals import mean_of
from analysis.tables.cell_table import headline_axis
from analysis.tables.seed_values import gather
from sweeps.spec.metrics import change_of

_finding = partial(
    Finding,
    key="seeds",
    question="How much of a result is the seed, and how far above the mean is the best of several seeds?",
)


def seeds(sweep: SweepData, metric: str = "accuracy_sampled") -> Finding:
    """Spread between the seeds of a cell, and the expected best of k, per value of the headline axis."""
    if not has_metric(sweep, metric):
        return _finding(missing=f"runs with {metric}")
    gathered = gather(sweep, sweep.cell_keys, metric)
    counts = (~np.isnan(gathered.values)).sum(axis=1)
    if counts.max(initial=0) < 2:
        return _finding(missing="cells with two seeds or more; set seed=range(4)")
    by, info = headline_axis(sweep), sweep.info(metric)
    whole = gather(sweep, by, metric)
    levels = [None if is_absent(v) else v for v in whole.groups[by[0]]] if by else ["all"]
    means = dict(zip(levels, mean_of(whole.values), strict=True))
    values_CS = gathered.values[counts >= 2]
    groups = gathered.groups[counts >= 2]
    names = [None if is_absent(v) else v for v in groups[by[0]]] if by else ["all"] * len(groups)
    lines, best, deviations = [], [], []
    for name in (level for level in levels if level in names):
        part_CS = values_CS[[n == name for n in names]]
        lines.append({"group": name, "mean": means[name]} | _line(part_CS, info.sign))
        best.append(_best_of(part_CS, info.sign).assign(group=name))
        centred = part_CS - np.nanmean(part_CS, axis=1, keepdims=True)
        deviations.append(pd.DataFrame({"group": [name] * centred.size, "deviation": centred.ravel()}))
    frame = pd.DataFrame(lines)
    show, unit = partial(in_numbers, info), unit_of_change(info)
    side = "below" if info.sign < 0 else "above"
    lifts = [show(info.sign * lift, signed=info.sign > 0) for lift in frame["best_lift"]]
    kind, change = value_kind(info), change_kind(info)
    return _finding(
        sentences=tuple(
            f"{cell_label({by[0]: line.group}) if by else 'All cells'}: seeds of a cell differ by "
            f"{show(line.deviation)}{unit} (standard deviation), {show(line.spread)} between best and worst; "
            f"the best of {line.seeds} stands {lift} {side} the mean."
            for line, lift in zip(frame.itertuples(), lifts, strict=True)
        ),
        table=ReportTable(
            title=f"Spread of {metric} between the seeds of a cell",
            frame=frame.rename(columns={"group": by[0] if by else "cells"}),
            layout=(
                ReportColumn(header=by[0] if by else "cells", source=by[0] if by else "cells"),
                ReportColumn(header="mean", source="mean", kind=kind),
                ReportColumn(header="sd of seeds", source="deviation", kind=kind),
                ReportColumn(header="best − worst", source="spread", kind=kind),
                ReportColumn(header="largest", source="widest", kind=kind),
                ReportColumn(header="best/worst, largest", source="ratio", kind="number"),
                ReportColumn(header="best − mean", source="best_lift", kind=change),
                ReportColumn(header="seeds", source="seeds", kind="count"),
                ReportColumn(header="cells", source="cells_counted", kind="count"),
            ),
            notes=(
                "Spreads of cells with two seeds or more; standard deviations are pooled over cells. "
                f"Rule: runs with a finite {metric}.",
            ),
        ),
        figure=_figure(sweep, pd.concat(best), pd.concat(deviations), by, metric),
    )


def _line(values_CS: np.ndarray, sign: int) -> dict[str, float]:
    """What a group's seeds differ by; ``sign`` is −1 where smaller is better."""
    counts = (~np.isnan(values_CS)).sum(axis=1)
    high, low = np.nanmax(values_CS, axis=1), np.nanmin(values_CS, axis=1)
    mean = np.nanmean(values_CS, axis=1)
    squares = np.nansum((values_CS - mean[:, None]) ** 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(low > 0, high / low, np.nan)
    return {
        "deviation": float(np.sqrt(squares / (counts - 1).sum())),
        "spread": float((high - low).mean()),
        "widest": float((high - low).max()),
        "ratio": float(np.nanmax(ratio)) if np.isfinite(ratio).any() else np.nan,
        "best_lift": float(((high if sign > 0 else low) - mean).mean()),
        "seeds": int(counts.max()),
        "cells_counted": len(values_CS),
    }


def _best_of(values_CS: np.ndarray, sign: int) -> pd.DataFrame:
    """Expected best of k seeds drawn without replacement from each complete cell, averaged over cells.

    The j-th worst of n is the best of a subset of k in C(j−1, k−1) of C(n, k) subsets.
    """
    complete = sign * np.sort(sign * values_CS[~np.isnan(values_CS).any(axis=1)], axis=1)
    n = values_CS.shape[1]
    rows = []
    for k in range(1, n + 1):
        j = np.arange(1, n + 1)
        weight = special.comb(j - 1, k - 1) / special.comb(n, k)
        rows.append({"k": k, "best": float((complete @ weight).mean()) if len(complete) else np.nan})
    return pd.DataFrame(rows)


def _figure(
    sweep: SweepData, best: pd.DataFrame, deviations: pd.DataFrame, by: list[str], metric: str
) -> Figure:
    key = by[0] if by else "cells"
    best, left_out = figures.keep_groups(best, "group", "best", smallest=sweep.info(metric).sign < 0)
    spread = deviations.dropna(subset="deviation").groupby("group", sort=False, dropna=False)["deviation"]
    shown = spread.quantile([0.05, 0.5, 0.95]).unstack().set_axis(["low", "middle", "high"], axis=1)
    shown = shown.reindex(best["group"].unique()).rename_axis(key).reset_index()
    change = change_of(sweep.info(metric))
    axis_title, share = figures.titled("seed minus mean of its cell", change), change.is_share
    left = figures.dots(shown, y=key, x="middle", x_title=axis_title, share=share, total=PRINT_PX / 2)
    lift = best["best"] - best.groupby("group", sort=False, dropna=False)["best"].transform("first")
    lines = best.rename(columns={"group": key}).assign(lift=lift, low=lift, high=lift)
    title = figures.titled("expected best minus mean", change)
    right = figures.curves(
        lines, x="k", y="lift", color=key, x_title="seeds tried", y_title=title, share=share
    )
    caption = (
        "Left: how runs scatter around their cell's mean (5 %, median, 95 %). Right: how far the best of k "
        f"seeds stands from the mean, by luck alone. {runs_and_seeds(sweep, metric)}.{left_out}"
    )
    return Figure(chart=figures.beside([left, right]), caption=caption)
