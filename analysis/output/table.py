"""A table with its footnotes, and the forms in which it can be written: text, Markdown, CSV, LaTeX, Parquet.

The frame keeps raw fractions under machine names; the layout says how people see them (percent points,
intervals).
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.output.csv_text import csv_text
from analysis.output.markup import in_notebook, table_html, title_html
from sweeps.grid.axes import short_names
from sweeps.manifest.atomic import replacing
from sweeps.spec import nearest
from sweeps.spec.errors import UserError
from sweeps.spec.metrics import MetricInfo
from sweeps.spec.text import label

FORMATS = ("text", "md", "csv", "latex", "parquet")
"""Forms of :meth:`ReportTable.render`; ``parquet`` needs a file to go to."""

TINY = 1e-12
"""Size below which a number is the rounding of a zero."""

NOTEBOOK_ROWS = 60
"""Rows that a notebook shows, as many as pandas does."""

MIN_NOTE_WIDTH = 100
"""Characters at which footnotes are wrapped under a narrow table."""


@dataclass(frozen=True, kw_only=True)
class ReportColumn:
    """How one column of the printed table is made from the frame."""

    header: str
    source: str
    """Column of the frame."""
    kind: str = "text"
    """``text``, ``count``, ``number``, ``change`` (same, signed), ``points`` (fraction shown in per cent),
    ``gain`` (same, signed) or ``p`` (a p-value, of which digits beyond the third say nothing).
    """
    interval: tuple[str, str] | None = None
    """Columns that hold the ends of the interval."""


SEEDS = ReportColumn(header="seeds", source="n", kind="count")
"""The column of how many seeds a row rests on."""


def interval_column(
    header: str, source: str, kind: str, ends: tuple[str, str] = ("low", "high")
) -> ReportColumn:
    """A value beside its 95 % interval, whose ends are the columns ``ends``."""
    return ReportColumn(header=f"{header} [95 % CI]", source=source, kind=kind, interval=ends)


def axis_columns(keys: Iterable[str]) -> list[ReportColumn]:
    """One column per axis under its short name."""
    return [ReportColumn(header=short, source=key) for key, short in short_names(keys).items()]


@dataclass(frozen=True, kw_only=True)
class ReportTable:
    """Rows, what they mean, and how to print them."""

    title: str
    frame: pd.DataFrame
    """Values under machine names, fractions unrounded."""
    layout: tuple[ReportColumn, ...]
    """Printed columns in order."""
    notes: tuple[str, ...] = ()
    """Footnotes: n, the meaning of intervals, what was left out and by which rule."""

    def cells(self) -> list[list[str]]:
        columns = [_format(self.frame, column) for column in self.layout]
        return [list(row) for row in zip(*columns, strict=True)]

    def html(self) -> str:
        """The table as a piece of HTML: its title, the first rows, its footnotes."""
        rows, kinds = self.cells(), ["text" if column.kind == "text" else "" for column in self.layout]
        notes = list(self.notes)
        if len(rows) > NOTEBOOK_ROWS:
            notes.insert(0, f"First {NOTEBOOK_ROWS} of {len(rows):,} rows; all are in .frame.")
        headers = [column.header for column in self.layout]
        return title_html(self.title) + table_html(headers, kinds, rows[:NOTEBOOK_ROWS], notes)

    def _repr_html_(self) -> str:
        return in_notebook(self.html())

    def records(self) -> list[dict[str, Any]]:
        """The frame's rows as plain JSON values; what is absent is ``None``."""
        rows = self.frame.astype(object).where(self.frame.notna(), None).to_dict("records")
        return [{k: v.item() if hasattr(v, "item") else v for k, v in row.items()} for row in rows]

    def render(self, form: str = "text") -> str:
        """Return the table as ``text``, ``md``, ``csv`` or ``latex``.

        Raises:
            UserError: for an unknown form, or for ``parquet``, which is binary (use :meth:`write`).
        """
        if form == "text":
            return self.text()
        if form == "md":
            return self.markdown()
        if form == "csv":
            return csv_text(self.frame)
        if form == "latex":
            return self.latex()
        if form == "parquet":
            raise UserError("format parquet is binary: name a file for it with --output FILE.parquet")
        raise UserError(
            f"unknown format {form!r}{nearest(form, FORMATS)}: choose one of {', '.join(FORMATS)}"
        )

    def write(self, path: Path, form: str | None = None) -> None:
        """Write to ``path`` by rename; the form defaults to the file's ending."""
        endings = {".md": "md", ".csv": "csv", ".tex": "latex", ".parquet": "parquet", ".txt": "text"}
        form = form or endings.get(path.suffix, "text")
        with replacing(path) as draft:
            if form == "parquet":
                self.frame.to_parquet(draft, index=False)
            else:
                draft.write_text(self.render(form) + "\n")

    def text(self) -> str:
        headers = [column.header for column in self.layout]
        rows = self.cells()
        widths = [max(len(row[i]) for row in [headers, *rows]) for i in range(len(headers))]
        right = [column.kind != "text" for column in self.layout]
        lines = [_aligned(row, widths, right) for row in [headers, *rows]]
        rule = "─" * sum(widths, 2 * (len(widths) - 1))
        width = max(len(rule), MIN_NOTE_WIDTH)
        notes = [line for note in self.notes for line in textwrap.wrap(note, width, subsequent_indent="  ")]
        return "\n".join([self.title, rule, lines[0], rule, *lines[1:], rule, *notes])

    def markdown(self) -> str:
        headers = [column.header for column in self.layout]
        marks = ["---" if column.kind == "text" else "---:" for column in self.layout]
        body = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in self.cells()]
        head = [f"| {' | '.join(headers)} |", f"| {' | '.join(marks)} |"]
        return "\n".join([f"**{self.title}**", "", *head, *body, "", *(f"- {note}" for note in self.notes)])

    def latex(self) -> str:
        """A floating ``table`` for the booktabs package, the footnotes as its caption."""
        spec = "".join("l" if column.kind == "text" else "r" for column in self.layout)
        head = " & ".join(_tex(column.header) for column in self.layout)
        body = [" & ".join(_tex(cell) for cell in row) + r" \\" for row in self.cells()]
        caption = " ".join(_tex(part) for part in (self.title + ".", *self.notes))
        return "\n".join(
            [
                r"\begin{table}[t]",
                r"\centering",
                rf"\caption{{{caption}}}",
                rf"\begin{{tabular}}{{{spec}}}",
                r"\toprule",
                head + r" \\",
                r"\midrule",
                *body,
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
            ]
        )


def percent(value: float, *, signed: bool = False) -> str:
    """A fraction in per cent with one decimal; an en dash where there is none."""
    if value is None or math.isnan(value):
        return "–"
    # A value that is halfway on paper is rounded away from zero, whichever way it was summed up.
    points = round(100 * value + math.copysign(TINY, value), 1) + 0.0  # adding zero turns −0.0 into 0.0
    return f"{points:+.1f}" if signed else f"{points:.1f}"


def value_kind(info: MetricInfo) -> str:
    """How a column of values of a metric is printed."""
    if info.difference:
        return change_kind(info)
    return "points" if info.is_share else "number"


def change_kind(info: MetricInfo) -> str:
    """How a column of differences between values of a metric is printed."""
    return "gain" if info.is_share else "change"


def in_numbers(info: MetricInfo, value: float, *, signed: bool = False) -> str:
    """A value of a metric, or with ``signed`` a difference, without its unit: ``89.0``, ``+1.2``."""
    if info.is_share:
        return percent(value, signed=signed or info.difference)
    if value is None or math.isnan(value):
        return "–"
    value = 0.0 if abs(value) < TINY else value
    return f"{value:+.4g}" if signed or info.difference else f"{value:.4g}"


def end_of(info: MetricInfo, value: float) -> str:
    """An end of a difference's interval; one that rounding would put on zero keeps a digit and its side."""
    text = in_numbers(info, value, signed=True)
    if not info.is_share or not value or float(text.replace("–", "nan")) != 0:
        return text
    return f"{100 * value:+.1g}" if abs(value) >= 1e-7 else text


def unit_of_change(info: MetricInfo) -> str:
    """The unit behind a difference, with the space before it: `` points``, `` m``, or nothing."""
    return " points" if info.is_share else f" {info.unit}" if info.unit else ""


def _format(frame: pd.DataFrame, column: ReportColumn) -> list[str]:
    values = frame[column.source].tolist()
    shown = [_one(value, column.kind) for value in values]
    if column.interval is None:
        return shown
    low, high = (frame[name].tolist() for name in column.interval)
    return [
        f"{text} [{_one(a, column.kind)}, {_one(b, column.kind)}]" if a == a else f"{text} [no interval]"
        for text, a, b in zip(shown, low, high, strict=True)
    ]


def _one(value: Any, kind: str) -> str:
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if kind == "points":
        return percent(value)
    if kind == "gain":
        return percent(value, signed=True)
    if kind == "count":
        return "∞" if value == math.inf else f"{int(value):,}"
    if kind == "p":
        return f"{value:.3f}" if value >= 0.001 else "<0.001"
    if kind in ("number", "change"):
        return f"{value:+.4g}" if kind == "change" else f"{value:.4g}"
    return label(value)


def _aligned(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    cells = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)]
    return "  ".join(cells).rstrip()


_TEX = {
    "\\": r"\textbackslash{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "±": r"$\pm$",
    "τ": r"$\tau$",
    "−": "$-$",
    "×": r"$\times$",
    "∞": r"$\infty$",
    "ω": r"$\omega$",
    "²": r"$^2$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "→": r"$\to$",
}


def _tex(text: str) -> str:
    return "".join(_TEX.get(c, c) for c in text)
