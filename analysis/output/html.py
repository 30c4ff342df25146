"""A self-contained HTML page from text, tables and figures: no script, no link, nothing fetched."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from html import escape

from analysis.output.figure import Figure
from analysis.output.table import ReportTable

STYLE = """
body { font: 16px/1.5 Georgia, serif; color: #1a1a1a; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2, h3, summary, th { font-family: Helvetica, Arial, sans-serif; }
h1 { font-size: 1.7rem; margin-bottom: 0; } h2 { font-size: 1.25rem; margin-top: 2.2rem;
border-bottom: 1px solid #bbb; } h3 { font-size: 1.05rem; margin-top: 1.6rem; }
table { border-collapse: collapse; font-size: .85rem; margin: .6rem 0; display: block; overflow-x: auto; }
th, td { padding: .15rem .6rem; text-align: right; white-space: nowrap; } th:first-child, td.text, th.text {
text-align: left; } thead th { border-bottom: 1px solid #555; border-top: 1px solid #555; }
tbody tr:last-child td { border-bottom: 1px solid #555; }
.note, figcaption { font-size: .85rem; color: #444; } .missing { color: #555; font-style: italic; }
.answer { background: #f3f6fa; border-left: 4px solid #0072B2; padding: .4rem 1rem; }
figure { margin: 1rem 0; } figure svg { max-width: 100%; height: auto; }
table.pairs td { white-space: normal; overflow-wrap: anywhere; }
table.pairs td:first-child { min-width: 6rem; }
code, pre { font-size: .85rem; background: #f6f6f6; } pre { padding: .6rem; overflow-x: auto; }
@media (max-width: 48rem) { figure.wide { overflow-x: auto; } figure.wide svg { max-width: none;
width: 44rem; } }
@media print { body { max-width: none; font-size: 11pt; } details { display: block; } }
"""

WIDE_PX = 700
"""Drawings wider than this scroll on a narrow screen, where shrinking would make them illegible."""

_width = re.compile(r'<svg[^>]* width="([0-9.]+)')

_ids = re.compile(r'(id="|url\(#|href="#)([^")]+)')


class Page:
    """Collects parts in order; :meth:`text` is the finished document."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._parts: list[str] = []
        self._figures = itertools.count(1)

    def heading(self, text: str, level: int = 2) -> None:
        self._parts.append(f"<h{level}>{escape(text)}</h{level}>")

    def paragraph(self, text: str, kind: str = "") -> None:
        self._parts.append(f"<p{_class(kind)}>{escape(text)}</p>")

    def sentences(self, lines: Iterable[str], kind: str = "answer") -> None:
        """Short lines set off from the text."""
        items = "".join(f"<div>{escape(line)}</div>" for line in lines)
        if items:
            self._parts.append(f"<div{_class(kind)}>{items}</div>")

    def code(self, text: str) -> None:
        self._parts.append(f"<pre>{escape(text)}</pre>")

    def table(self, table: ReportTable, *, folded: bool = False, max_rows: int = 200) -> None:
        """A table with its notes; ``folded`` hides it behind its title."""
        rows = table.cells()
        head = "".join(
            f"<th{_class('text' if c.kind == 'text' else '')}>{escape(c.header)}</th>" for c in table.layout
        )
        kinds = ["text" if c.kind == "text" else "" for c in table.layout]
        body = "".join(_row(row, kinds) for row in rows[:max_rows])
        notes = list(table.notes)
        if len(rows) > max_rows:
            notes.insert(0, f"First {max_rows} of {len(rows):,} rows; emsweep table writes them all.")
        marks = "".join(f'<div class="note">{escape(note)}</div>' for note in notes)
        whole = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{marks}"
        if folded:
            self._parts.append(f"<details><summary>{escape(table.title)}</summary>{whole}</details>")
        else:
            self._parts.append(f"<h3>{escape(table.title)}</h3>{whole}")

    def pairs(self, rows: Iterable[tuple[str, str]]) -> None:
        body = "".join(_row(row, ["text", "text"]) for row in rows)
        self._parts.append(f'<table class="pairs"><tbody>{body}</tbody></table>')

    def figure(self, figure: Figure) -> None:
        number = next(self._figures)
        # Several drawings share one page: their internal names must not meet.
        svg = _ids.sub(lambda m: f"{m[1]}f{number}-{m[2]}", figure.svg())
        caption = f"<figcaption>Figure {number}. {escape(figure.caption)}</figcaption>"
        width = _width.search(svg)
        wide = _class("wide" if width and float(width[1]) > WIDE_PX else "")
        self._parts.append(f"<figure{wide}>{svg}{caption}</figure>")

    def text(self) -> str:
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f"<title>{escape(self._title)}</title><style>{STYLE}</style></head>\n<body>\n"
            + "\n".join(self._parts)
            + "\n</body></html>\n"
        )


def _row(cells: Sequence[str], kinds: Sequence[str]) -> str:
    return (
        "<tr>"
        + "".join(f"<td{_class(k)}>{escape(c)}</td>" for c, k in zip(cells, kinds, strict=True))
        + "</tr>"
    )


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""
