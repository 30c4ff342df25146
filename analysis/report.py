"""One page that a reviewer could read: what was asked, what ran, what came out, how sure, at what cost.

emsweep report outputs/quickstart
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path

from analysis.data.axes import SEED, is_absent
from analysis.data.chosen import told_chosen
from analysis.data.sweep import SweepData
from analysis.findings import find_all
from analysis.output.html import Page
from analysis.tables.best_cells import best_cells
from analysis.tables.cell_table import cell_table, headline, headline_axis
from analysis.tables.compare import compare_levels
from analysis.tables.costs import cost_table
from analysis.tables.importance import importance, in_words
from analysis.tables.structure import Structure, grid_structure
from sweeps.manifest.atomic import write_atomically
from sweeps.spec.errors import UserError
from sweeps.spec.text import counted, label

REPORT_NAME = "report.html"
"""File inside the sweep directory that a report is written to by default."""

MAX_COMPARED = 8
"""Values of an axis up to which each is compared with the first."""

MAX_FINGERPRINTS = 10
"""Kinds of failure listed."""


def build_report(sweep: SweepData, *, metric: str | None = None, over: str | None = None) -> str:
    """Return the report as one HTML document that needs no network.

    Raises:
        UserError: for an unknown metric, or when the optional figure packages are missing.
    """
    metric = sweep.metric(metric)
    source = sweep.sources[0]
    name = ", ".join(str(s.header.get("sweep") or s.directory.name) for s in sweep.sources)
    page = Page(f"Sweep {name}")
    page.heading(f"Sweep {name}", 1)
    question = source.asked.get("about") or source.header.get("about")
    if question:
        page.paragraph(str(question))
    page.sentences([line.strip() for line in headline(sweep, metric, over)])
    page.sentences(told_chosen(sweep.sources), kind="missing")
    structure = grid_structure(sweep)
    page.sentences(structure.confounded(), kind="missing")
    _grid(page, sweep, structure)
    _coverage(page, sweep, metric)
    page.heading("Results")
    split = [key for axis in headline_axis(sweep) for key in structure.pool_of(axis)]
    by = [key for key in ("model", *split) if key in sweep.cell_keys]
    page.table(cell_table(sweep, by=list(dict.fromkeys(by)), metric=metric, over=over))
    _comparisons(page, sweep, metric, structure, over)
    page.heading("What matters")
    try:
        shares = importance(sweep, metric=metric)
        page.sentences([in_words(shares)])
        page.table(shares)
    except UserError as error:
        page.paragraph(str(error), "missing")
    page.heading("Best cells, and what their lead is worth")
    try:
        best = best_cells(sweep, metric=metric, over=over)
        page.sentences([best.sentence])
        page.table(best.table)
    except UserError as error:
        page.paragraph(str(error), "missing")
    page.heading("Questions")
    unanswered = []
    for finding in find_all(sweep, metric):
        if finding.missing:
            unanswered.append((finding.question, f"needs {finding.missing}"))
            continue
        page.heading(finding.question, 3)
        page.sentences(finding.sentences)
        if finding.figure is not None:
            page.figure(finding.figure)
        if finding.table is not None:
            page.table(finding.table, folded=True)
    if unanswered:
        page.heading("Questions this sweep cannot answer", 3)
        page.pairs(unanswered)
    page.heading("Costs")
    page.table(cost_table(sweep))
    _reproduce(page, sweep)
    return page.text()


def write_report(sweep: SweepData, path: Path, *, metric: str | None = None, over: str | None = None) -> Path:
    text = build_report(sweep, metric=metric, over=over)
    write_atomically(path, text.encode())
    return path


def _grid(page: Page, sweep: SweepData, structure: Structure) -> None:
    page.heading("The grid")
    columns = sweep.columns()
    values = {axis.key: columns.levels(axis.key)[0].tolist() for axis in sweep.axes}
    rows = [(key, _listed([_value(v) for v in levels])) for key, levels in values.items()]
    cells = columns.group(sweep.cell_keys).size
    whole = math.prod(len(levels) for key, levels in values.items() if key != SEED)
    filtered = f", narrowed to {' '.join(sweep.filters)}" if sweep.filters else ""
    part = "a full factorial" if cells == whole else f"a part of the {whole:,} combinations of their values"
    page.paragraph(
        f"{counted(len(columns), 'run')} over {len(sweep.axes)} axes{filtered}: {counted(cells, 'cell')}, "
        f"{part}, and {counted(len(values[SEED]), 'seed')}."
    )
    page.pairs(rows)
    for sentence in structure.conditional():
        page.paragraph(sentence, "note")


def _value(value: object) -> str:
    return "– (does not exist)" if is_absent(value) else label(value)


def _comparisons(page: Page, sweep: SweepData, metric: str, structure: Structure, over: str | None) -> None:
    """Every value of each axis against the first, where the axis can be told from the others."""
    page.heading("Comparisons")
    columns = sweep.columns()
    page.paragraph(
        "Each value of an axis against its first, on runs that agree on all other axes and the seed; every "
        "axis is a family of its own, within which p is corrected.",
        "note",
    )
    for key in structure.alone:
        num_values = len(columns.levels(key)[0])
        if num_values > MAX_COMPARED:
            page.paragraph(
                f"{key} has {num_values} values, too many to compare each with the first: emsweep compare "
                "DIRECTORY A B compares two of them.",
                "note",
            )
            continue
        try:
            comparison = compare_levels(sweep, key, metric=metric, over=over)
        except UserError as error:
            page.paragraph(f"{key}: {error}", "missing")
            continue
        page.sentences(comparison.sentences)
        page.table(comparison.table, folded=True)


def _listed(values: Sequence[str], most: int = 20) -> str:
    shown = ", ".join(values[:most])
    return f"{shown}, … ({len(values):,} values)" if len(values) > most else shown


def _coverage(page: Page, sweep: SweepData, metric: str) -> None:
    page.heading("Coverage and failures")
    counts = sweep.counts()
    total = max(1, sum(counts.values()))
    listed = sorted(counts.items(), key=lambda item: -item[1])
    page.pairs([(outcome, f"{n:,} ({100 * n / total:.1f} %)") for outcome, n in listed])
    page.paragraph(
        f"Done and diverged runs are results. A diverged run has no final {metric}: it is counted in every "
        "table and left out of means, so where many diverge a mean is that of the survivors.",
        "note",
    )
    if sweep.unreadable:
        page.paragraph(f"Left out as damaged: {', '.join(p.name for p in sweep.unreadable)}.", "missing")
    if "error" not in sweep.arrow("SELECT * FROM runs LIMIT 0").column_names:
        return
    failures = sweep.arrow(
        "SELECT fingerprint, count(*) AS n, any_value(error) AS error, any_value(name) AS name FROM runs "
        f"WHERE fingerprint IS NOT NULL GROUP BY fingerprint ORDER BY n DESC LIMIT {MAX_FINGERPRINTS}"
    ).to_pylist()
    if failures:
        page.heading("Failures by kind", 3)
        page.pairs([(f"{row['n']:,} ×", f"{row['error']} (first: {row['name']})") for row in failures])


def _reproduce(page: Page, sweep: SweepData) -> None:
    page.heading("How to reproduce")
    packages = dict.fromkeys(target.partition(".")[0] for target in sweep.targets)
    for source in sweep.sources:
        overrides = [str(w) for w in source.header.get("overrides") or source.asked.get("overrides") or ()]
        overrides += [word for package in packages for word in ("--allow-target", package)]
        directory = str(source.directory)
        page.code(
            "\n".join(
                [
                    f"emsweep launch {shlex.join(overrides)} --dir {directory}",
                    f"emsweep verify {directory}",
                    f"emsweep replay {directory} RUN_ID    # one run, cold, number by number",
                    f"emsweep report {directory}",
                ]
            )
        )
        facts = [("manifest digest", str(source.header.get("digest", "–")))]
        facts += [
            (key, str(source.asked[key]))
            for key in ("git_commit", "frozen_at", "pool")
            if source.asked.get(key)
        ]
        for group in ("versions", "host"):
            facts += [(str(k), str(v)) for k, v in (source.asked.get(group) or {}).items()]
        page.pairs(facts)
