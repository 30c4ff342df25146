"""How biased is a study that picks one example? The example's share of the variance, and where the pick of
each rule lands among all picks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd

from analysis.data.sweep import SweepData
from analysis.findings.base import Finding, best_setting, change_in_words, has_metric, runs_and_seeds
from analysis.findings.examples import STATISTICS, example_axis, known_before
from analysis.output import figures
from analysis.output.encodings import PRINT_PX
from analysis.output.figure import Figure
from analysis.output.table import ReportColumn, ReportTable, interval_column, percent
from analysis.stats.components import crossed_components
from analysis.stats.crossed import Estimate
from analysis.stats.heldout import held_out_best
from analysis.stats.intervals import Interval, mean_interval
from analysis.tables.crossed_means import crossed_sums, over_items_too
from analysis.tables.item_means import interval_words
from analysis.tables.item_scores import item_scores
from analysis.tables.seed_values import SeedGroups, SeedValues, gather
from sweeps.spec.metrics import MetricInfo
from sweeps.spec.text import label

_finding = partial(Finding, key="picking", question="How biased is picking one example?")

MIN_EXAMPLES = 8
"""Candidates below which a rank among all picks says little."""

NUM_BINS = 24
"""Bins of the figure's histogram of all picks."""


@dataclass(frozen=True, kw_only=True)
class _Rule:
    """A way to pick, and the candidates that it cannot tell apart."""

    name: str
    picks: np.ndarray
    """Mask over the candidates."""


def picking(sweep: SweepData, gain: str = "gain_sampled") -> Finding:
    """Shares of example, seed and interaction in the gain; rank, percentile and regret of each rule's pick.

    A rule that ties several candidates is judged by their average: it leaves the choice to chance. Regret is
    against the best candidate that half of the seeds choose, judged on the other half.
    """
    axis = example_axis(sweep)
    if axis is None or len(sweep.axis(axis).values) < MIN_EXAMPLES or not has_metric(sweep, gain):
        needed = f"an axis of {MIN_EXAMPLES} examples or more, with {gain} over several seeds"
        return _finding(missing=needed)
    best, where = best_setting(sweep, [axis], gain)
    gathered = gather(best, [axis], gain)
    whole = ~np.isnan(gathered.values).any(axis=1)
    values_ES = gathered.values[whole]
    if len(values_ES) < MIN_EXAMPLES or values_ES.shape[1] < 2:
        return _finding(missing=f"{MIN_EXAMPLES} examples with all seeds")
    names = [label(v) for v in gathered.groups.loc[whole, axis]]
    rules = _rules(names, known_before(best, axis))
    interval = mean_interval(np.stack([values_ES[rule.picks].mean(axis=0) for rule in rules]))
    estimate = over_items_too(
        best, gain, [axis], interval.n, lambda: _crossed(best, axis, gathered, whole, rules)
    )
    if estimate is not None:
        ends = estimate.interval(bounds=gathered.bounds)
        interval = replace(interval, low=ends.low, high=ends.high)
    over = interval_words("seeds" if estimate is None else "both")
    frame, held_out = _judged(values_ES, rules, interval)
    caption = f"{len(values_ES)} examples{where}"
    left_out = "" if whole.all() else f" {int((~whole).sum())} examples lack a seed and are left out."
    return _finding(
        sentences=tuple(_sentences(values_ES, frame, held_out, where, sweep.info(gain))),
        table=ReportTable(
            title=f"Where each rule's pick lands among {len(values_ES)} examples{where}",
            frame=frame,
            layout=(
                ReportColumn(header="rule", source="rule"),
                ReportColumn(header="candidates tied", source="tied", kind="count"),
                interval_column("gain", "gain", "gain"),
                ReportColumn(header="rank", source="rank", kind="number"),
                ReportColumn(header="percentile", source="percentile", kind="points"),
                ReportColumn(header="regret", source="regret", kind="gain"),
            ),
            notes=(
                f"{over}, of each rule alone. Rank 1 and percentile 100 are the best of all picks; regret is "
                "against the example that half of the seeds choose, judged on the other half. A tie is "
                "judged by its average. Shares of variance, ranks and regret are over seeds only, of gains "
                f"on these items, for only seeds are split. Rule: examples with every seed.{left_out}",
            ),
        ),
        figure=_figure(values_ES, frame, f"{caption}; {runs_and_seeds(best, gain)}. {over}"),
    )


def _rules(names: list[str], known: Mapping[str, Mapping[str, float]]) -> list[_Rule]:
    """Both ends of every statistic that tells the candidates apart, and chance."""
    rules = []
    for statistic, title in STATISTICS.items():
        values_E = np.array([known[statistic].get(name, np.nan) for name in names])
        if np.isnan(values_E).any() or np.ptp(values_E) == 0:
            continue
        rules += [
            _Rule(name=f"highest {title}", picks=values_E == values_E.max()),
            _Rule(name=f"lowest {title}", picks=values_E == values_E.min()),
        ]
    return [*rules, _Rule(name="at random", picks=np.ones(len(names), dtype=bool))]


def _crossed(
    sweep: SweepData, axis: str, gathered: SeedValues, whole: np.ndarray, rules: list[_Rule]
) -> Estimate:
    """Mean gain of each rule's pick over seeds and items; the candidates of a tie are averaged item by item.

    Args:
        whole: which groups are candidates, shape (G,).

    Raises:
        UserError: when there are no verdicts, or the items differ in number between runs.
    """
    arranged, value_R = SeedGroups(gathered.columns, [axis]), gathered.columns.metric(gathered.metric)
    seeds = len(gathered.seeds)
    candidate_R = np.where(whole, np.cumsum(whole) - 1, -1)[arranged.groups.number]
    known_S = np.isin(arranged.seeds, gathered.seeds)
    seed_R = (np.cumsum(known_S) - 1)[arranged.seed]
    counts_R = (candidate_R >= 0) & known_S[arranged.seed] & ~np.isnan(value_R)
    place_R = np.where(counts_R, candidate_R * seeds + seed_R, 0)
    count_ES = np.bincount(place_R[counts_R], minlength=int(whole.sum()) * seeds).reshape(-1, seeds)
    parts = []
    for number, rule in enumerate(rules):
        slot_R = np.where(counts_R & rule.picks[candidate_R], number * seeds + seed_R, -1)
        parts.append((slot_R, 1 / (rule.picks.sum() * np.maximum(1, count_ES.ravel()[place_R]))))
    sums = item_scores(sweep, arranged.columns, gathered.metric, parts, len(rules) * seeds)
    value_RS = np.stack([gathered.values[whole][rule.picks].mean(axis=0) for rule in rules])
    count_RS = np.stack([count_ES[rule.picks].sum(axis=0) for rule in rules])
    return crossed_sums(sums, value_RS, count_RS, "both", gathered.bounds)


def _judged(values_ES: np.ndarray, rules: list[_Rule], interval: Interval) -> tuple[pd.DataFrame, float]:
    """One row per rule, best first, and what the best example is worth on seeds that did not choose it."""
    means_E = values_ES.mean(axis=1)
    rank_E = pd.Series(-means_E).rank().to_numpy()
    check = held_out_best(values_ES)
    held_out = check.held_out if check else float("nan")
    rank_R = np.array([rank_E[rule.picks].mean() for rule in rules])
    frame = pd.DataFrame(
        {
            "rule": [rule.name for rule in rules],
            "tied": [int(rule.picks.sum()) for rule in rules],
            "gain": interval.value,
            "low": interval.low,
            "high": interval.high,
            "rank": rank_R,
            "percentile": (len(means_E) - rank_R) / (len(means_E) - 1),
            "regret": interval.value - held_out,
        }
    )
    return frame.sort_values("gain", ascending=False, ignore_index=True), held_out


def _sentences(
    values_ES: np.ndarray, frame: pd.DataFrame, held_out: float, where: str, info: MetricInfo
) -> list[str]:
    examples, seeds = values_ES.shape
    means_E = values_ES.mean(axis=1)
    sentences = []
    if parts := crossed_components(values_ES):
        sentences.append(
            f"Of the variance between single runs{where}, {percent(parts.first)} % is the example, "
            f"{percent(parts.second)} % the seed and {percent(parts.interaction)} % their interaction; among "
            f"runs of one seed the example makes {percent(parts.first_low)} to {percent(parts.first_high)} % "
            f"(95 % CI over {examples} examples × {seeds} seeds, on these items)."
        )
    low, middle, high = np.quantile(means_E, [0.05, 0.5, 0.95])
    sentences.append(
        f"Nine of ten picks gain between {percent(low, signed=True)} and {percent(high, signed=True)} "
        f"points, the median pick {percent(middle, signed=True)}; the best, judged on seeds that did not "
        f"choose it, on these items, {percent(held_out, signed=True)}."
    )
    rule = frame[frame["rule"] != "at random"].head(1)
    if len(rule):
        row = rule.iloc[0]
        sentences.append(
            f"The best rule, {row['rule']}, gains "
            f"{change_in_words(info, row['gain'], row['low'], row['high'])}: percentile "
            f"{percent(row['percentile'])}, {percent(row['regret'], signed=True)} against the best."
        )
    return sentences


def _figure(values_ES: np.ndarray, frame: pd.DataFrame, what: str) -> Figure:
    counts, edges = np.histogram(values_ES.mean(axis=1), bins=NUM_BINS)
    bins = pd.DataFrame({"gain": edges[:-1], "examples": counts})
    chart = figures.beside(
        [
            figures.bars(
                bins,
                x="gain",
                y="examples",
                x_title="mean gain of an example (points)",
                y_title="examples",
                share=True,
            ),
            figures.dots(
                frame,
                y="rule",
                x="gain",
                x_title="gain of the rule's pick (points)",
                zero=True,
                share=True,
                total=PRINT_PX / 2,
            ),
        ]
    )
    return Figure(chart=chart, caption=f"All picks and the rules' picks; {what}.")
