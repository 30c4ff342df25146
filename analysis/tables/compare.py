"""Is B better than A? Matched runs, one test with its interval, and a sentence to quote.

    compare(sweep, "optim.lr=1e-4", "optim.lr=2e-4", by=["model"])

Runs are matched on every axis that neither side names (or on ``match_on``), the seed among them. Differences
are averaged over cells within each seed, because cells share their seeds' noise; seeds, and where they are
recorded items, are the units that are tested. Of several comparisons at once each p is corrected for their
number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from analysis.data.axes import cell_label, words_of
from analysis.data.columns import RunArrays
from analysis.data.sweep import SweepData
from analysis.output.markup import in_notebook, lines_html
from analysis.output.table import (
    ReportColumn,
    ReportTable,
    axis_columns,
    change_kind,
    end_of,
    in_numbers,
    interval_column,
    unit_of_change,
)
from analysis.stats.testing import Difference, benjamini_hochberg, holm
from analysis.tables.bounds import bounds_of, verdicts_per_value
from analysis.tables.item_means import OVER_WORDS, over_or_default
from analysis.tables.item_scores import item_scores
from analysis.tables.matching import Matched, Pairing, judge, lacking, pair, require_apart
from analysis.tables.structure import grid_structure
from sweeps.grid.axes import resolve
from sweeps.grid.filters import parse_filter
from sweeps.spec.errors import UserError
from sweeps.spec.metrics import MetricInfo, change_of
from sweeps.spec.text import counted, label

SMALLEST_OF_INTEREST = 0.01
"""Difference whose visibility is reported: one point of accuracy."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One or more tested differences, B minus A."""

    table: ReportTable
    """One row per difference."""
    sentences: tuple[str, ...]
    by_seed: pd.DataFrame
    """What the tests rest on: the axes ``by``, ``seed``, ``difference``; empty where seeds are unmatched."""
    tests: tuple[Difference, ...]
    """One per row of the table."""

    def _repr_html_(self) -> str:
        return in_notebook(lines_html(self.sentences), self.table.html())


def compare(
    sweep: SweepData,
    a: str,
    b: str,
    *,
    by: str | Sequence[str] = (),
    match_on: str | Sequence[str] | None = None,
    metric: str | None = None,
    over: str | None = None,
) -> Comparison:
    """Compare the runs that filter ``b`` means with those that ``a`` means.

    Args:
        a: filter such as ``optim.lr=1e-4``.
        by: axes by which to split into a family of comparisons; p-values are corrected for their number.
        match_on: axes on which two runs must agree to be a pair; by default all that neither filter names.
            Without ``seed`` among them the test is unpaired.
        over: what interval and test generalise over: other ``seeds``, other ``items`` or ``both``, which is
            the default for an accuracy with verdicts per item.

    Raises:
        UserError, SpecError: for an unknown axis, value or metric, or when no run of A matches one of B.
    """
    metric = sweep.metric(metric)
    filtered = [term.key for term in (*parse_filter(a).terms, *parse_filter(b).terms)]
    named = {resolve(word, [*sweep.axis_keys, "sweep", "outcome"], "axis") for word in filtered}
    by = [sweep.axis(word).key for word in words_of(by)]
    columns = sweep.columns([metric])
    side_a, side_b = (columns.selected(sweep.terms(text)) for text in (a, b))
    require_apart(side_a, side_b, (a, b))
    free = _free(sweep, named)
    left = lacking(columns, side_a, side_b, free) if match_on is None else []
    keys = [sweep.axis(w).key for w in words_of(match_on)] if match_on is not None else free
    keys = list(dict.fromkeys([*(key for key in keys if key not in left), *by]))
    one = pair(columns, metric, side_a, side_b, keys, by)
    (matched,) = _judged(sweep, columns, metric, [one], by, over)
    if not matched.tests:
        raise UserError(
            f"no run of {a!r} matches one of {b!r} on {', '.join(keys)}: {matched.candidates[0]} and "
            f"{matched.candidates[1]} candidates have a result; match on fewer axes with --match-on"
            + "".join(f". {text}" for text in grid_structure(sweep).moves_with(sorted(named)))
        )
    info = sweep.info(metric)
    frame = _frame(matched.groups, matched.tests, info)
    labels = [cell_label(values) or "all" for values in _rows(frame[by])]
    question = f"{b} minus {a}"
    table = ReportTable(
        title=f"{metric}: {question}",
        frame=frame,
        layout=_layout(by, info, over_items=bool((frame["items"] > 0).any())),
        notes=(*_notes(matched.tests, keys, metric, info, matched.alone), *_unmatched(left), *sweep.warnings),
    )
    sentences = tuple(
        _sentence(question, row, where, info) for row, where in zip(_rows(frame), labels, strict=True)
    )
    return Comparison(table=table, sentences=sentences, by_seed=matched.by_seed, tests=tuple(matched.tests))


def compare_levels(
    sweep: SweepData,
    axis: str,
    *,
    reference: str | None = None,
    metric: str | None = None,
    over: str | None = None,
) -> Comparison:
    """Compare every value of an axis with one of them (default: the first), corrected as one family.

    Raises:
        UserError: for an unknown axis, or one with a single value.
    """
    varied = sweep.axis(axis)
    if len(varied.values) < 2:
        raise UserError(f"axis {varied.key!r} has one value, {label(varied.values[0])}: nothing to compare")
    metric = sweep.metric(metric)
    term = parse_filter(f"{varied.key}={reference}").terms[0] if reference is not None else None
    base = next((v for v in varied.values if term is None or term.matches(v)), None)
    if base is None and reference is not None:
        listed = ", ".join(label(value) for value in varied.values[:30])
        raise UserError(f"{varied.key}={reference}: no run has this value; it takes {listed}")
    keys = _free(sweep, {varied.key})
    columns = sweep.columns([metric])
    sides = {value: columns.has_level(varied.key, value) for value in varied.values}
    left = {
        value: lacking(columns, sides[base], side, keys) for value, side in sides.items() if value != base
    }
    pairings = [
        pair(columns, metric, sides[base], sides[value], [k for k in keys if k not in absent], [])
        for value, absent in left.items()
    ]
    judged = _judged(sweep, columns, metric, pairings, [varied.key], over)
    matched = dict(zip(left, judged, strict=True))
    tests = {value: test for value, one in matched.items() for test in one.tests}
    if not tests:
        raise UserError(
            f"no value of {varied.key} has results that match those of {varied.key}={label(base)} on "
            f"{', '.join(keys)}; compare two values that do: `compare A B`"
        )
    info = sweep.info(metric)
    frame = _frame(pd.DataFrame({varied.key: list(tests)}), list(tests.values()), info)
    question = f"minus {varied.key}={label(base)}"
    unmatched = list(dict.fromkeys(key for absent in left.values() for key in absent))
    alone = sum(one.alone for one in matched.values())
    by_seed = pd.concat([one.by_seed.assign(**{varied.key: v}) for v, one in matched.items()])
    table = ReportTable(
        title=f"{metric}: each {varied.key} {question}",
        frame=frame,
        layout=_layout([varied.key], info, over_items=bool((frame["items"] > 0).any())),
        notes=(
            *_notes(list(tests.values()), [k for k in keys if k not in unmatched], metric, info, alone),
            *_unmatched(unmatched),
            *sweep.warnings,
        ),
    )
    sentences = tuple(
        _sentence(f"{varied.key}={label(row[varied.key])} {question}", row, "all", info)
        for row in _rows(frame)
    )
    return Comparison(
        table=table, sentences=sentences, by_seed=by_seed.reset_index(drop=True), tests=tuple(tests.values())
    )


def _free(sweep: SweepData, named: set[str]) -> list[str]:
    return [key for key in sweep.axis_keys if key not in named]


def _unmatched(keys: Sequence[str]) -> list[str]:
    """What is said of axes that one side lacks."""
    if not keys:
        return []
    return [f"Not matched on {', '.join(keys)}, which one side lacks: the other is averaged over it."]


def _judged(
    sweep: SweepData,
    columns: RunArrays,
    metric: str,
    pairings: Sequence[Pairing],
    by: Sequence[str],
    over: str | None,
) -> list[Matched]:
    """Test over what is asked for; by default over both, and over seeds where there are no common items."""
    info, value_R = sweep.info(metric), columns.metric(metric)
    change = info if info.difference else change_of(info)

    def test(over: str) -> list[Matched]:
        return judge(
            pairings,
            over,
            bounds=bounds_of(change, np.array([-1.0])) if info.is_share else None,
            verdicts_per_run=verdicts_per_value(info, value_R),
            scores=partial(item_scores, sweep, columns, metric),
        )

    wanted = over_or_default(sweep, metric, over, by)
    if not any(one.difference_GS.size for one in pairings):
        return test("seeds")
    try:
        return test(wanted)
    except UserError:
        if over is not None:
            raise
        return test("seeds")


def _frame(groups: pd.DataFrame, tests: Sequence[Difference], info: MetricInfo) -> pd.DataFrame:
    p = np.array([test.p for test in tests])
    known = ~np.isnan(p)
    adjusted_holm, adjusted_bh = p.copy(), p.copy()
    adjusted_holm[known], adjusted_bh[known] = holm(p[known]), benjamini_hochberg(p[known])
    level = 0.05 / max(1, int(known.sum()))  # planning is for the p that is corrected
    return groups.assign(
        difference=[t.mean for t in tests],
        low=[t.low for t in tests],
        high=[t.high for t in tests],
        p=p,
        p_holm=adjusted_holm,
        p_bh=adjusted_bh,
        family=int(known.sum()),
        effect_size=[t.effect_size for t in tests],
        superiority=[1 - t.superiority if info.direction == "min" else t.superiority for t in tests],
        seeds=[t.n for t in tests],
        paired=[t.paired for t in tests],
        over=[t.over for t in tests],
        items=[t.items for t in tests],
        power_1_point=[t.power(SMALLEST_OF_INTEREST, level) for t in tests],
        seeds_for_1_point=[t.seeds_needed(SMALLEST_OF_INTEREST, level) for t in tests],
        items_for_1_point=[t.items_needed(SMALLEST_OF_INTEREST, level) for t in tests],
    )


def _rows(frame: pd.DataFrame) -> list[dict]:
    return frame.to_dict("records")


def _layout(by: Sequence[str], info: MetricInfo, *, over_items: bool) -> tuple[ReportColumn, ...]:
    wins = "seeds B higher" if info.direction == "none" else "seeds B wins"
    columns = [
        *axis_columns(by),
        interval_column("B − A", "difference", change_kind(info)),
        ReportColumn(header="p", source="p", kind="p"),
        ReportColumn(header="p Holm", source="p_holm", kind="p"),
        ReportColumn(header="p BH", source="p_bh", kind="p"),
        ReportColumn(header="d", source="effect_size", kind="number"),
        ReportColumn(header=wins, source="superiority", kind="points"),
        ReportColumn(header="seeds", source="seeds", kind="count"),
    ]
    if info.is_share:
        columns += [
            ReportColumn(header="power for 1 point", source="power_1_point", kind="points"),
            ReportColumn(header="seeds for 80 %", source="seeds_for_1_point", kind="count"),
        ]
        if over_items:
            columns.append(ReportColumn(header="or items", source="items_for_1_point", kind="count"))
    return tuple(columns)


def _notes(
    tests: Sequence[Difference], keys: Sequence[str], metric: str, info: MetricInfo, unmatched: int
) -> tuple[str, ...]:
    name = "paired t test" if all(test.paired for test in tests) else "Welch's t test"
    over = " or ".join(dict.fromkeys(OVER_WORDS[test.over] for test in tests))
    corrected = f" at 5 % over {len(tests)} (Bonferroni)" if len(tests) > 1 else ""
    planning = (
        f" Power and planning: for 1 point{corrected}; ∞: no number of these suffices without more of the "
        "other."
        if info.is_share
        else ""
    )
    return (
        f"Matched on {', '.join(keys)}; cells are averaged within each seed. Interval (95 %), p and power "
        f"are of one two-sided {name} over {over}; Holm and Benjamini–Hochberg over {len(tests)}. "
        f"d: mean over standard deviation of seeds.{planning}",
        f"Rule: pairs are of runs with a finite {metric}; {counted(unmatched, 'run')} without a partner, "
        "left out.",
    )


def _sentence(question: str, row: dict, where: str, info: MetricInfo) -> str:
    text = f"{question}" + (f", {where}" if where != "all" else "")
    text += f": {in_numbers(info, row['difference'], signed=True)}{unit_of_change(info)}"
    seeds = (
        counted(row["seeds"], "matched seed") if row["paired"] else f"{counted(row['seeds'], 'seed')} a side"
    )
    if row["low"] != row["low"]:
        return f"{text}; {seeds}, too few for an interval or a test"
    text += f", 95 % CI {end_of(info, row['low'])} to {end_of(info, row['high'])}"
    text += f", {seeds}" + (f" × {row['items']} items" if row["items"] else "")
    text += (
        f", p={row['p_holm']:.2g} after Holm over {row['family']}"
        if row["family"] > 1
        else f", p={row['p']:.2g}"
    )
    return text
