"""A self-contained HTML page from text, tables and figures: no script, no link, nothing fetched."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from html import escape

from analysis.output.figure import Figure
from analysis.output.markup import attribute, own_names, row_html, table_html
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


class Page:
    """Collects parts in order; :meth:`text` is the finished document."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._parts: list[str] = []
        self._figures = itertools.count(1)

    def heading(self, text: str, level: int = 2) -> None:
        self._parts.append(f"<h{level}>{escape(text)}</h{level}>")

    def paragraph(self, text: str, kind: str = "") -> None:
        self._parts.append(f"<p{attribute(kind)}>{escape(text)}</p>")

    def sentences(self, lines: Iterable[str], kind: str = "answer") -> None:
        """Short lines set off from the text."""
        items = "".join(f"<div>{escape(line)}</div>" for line in lines)
        if items:
            self._parts.append(f"<div{attribute(kind)}>{items}</div>")

    def code(self, text: str) -> None:
        self._parts.append(f"<pre>{escape(text)}</pre>")

    def table(self, table: ReportTable, *, folded: bool = False, max_rows: int = 200) -> None:
        """A table with its notes; ``folded`` hides it behind its title."""
        rows = table.cells()
        kinds = ["text" if c.kind == "text" else "" for c in table.layout]
        notes = list(table.notes)
        if len(rows) > max_rows:
            notes.insert(0, f"First {max_rows} of {len(rows):,} rows; emsweep table writes them all.")
        whole = table_html([c.header for c in table.layout], kinds, rows[:max_rows], notes)
        if folded:
            self._parts.append(f"<details><summary>{escape(table.title)}</summary>{whole}</details>")
        else:
            self._parts.append(f"<h3>{escape(table.title)}</h3>{whole}")

    def pairs(self, rows: Iterable[tuple[str, str]]) -> None:
        body = "".join(row_html(row, ["text", "text"]) for row in rows)
        self._parts.append(f'<table class="pairs"><tbody>{body}</tbody></table>')

    def figure(self, figure: Figure) -> None:
        number = next(self._figures)
        # Several drawings share one page: their internal names must not meet.
        svg = own_names(figure.svg(), number)
        caption = f"<figcaption>Figure {number}. {escape(figure.caption)}</figcaption>"
        width = _width.search(svg)
        wide = attribute("wide" if width and float(width[1]) > WIDE_PX else "")
        self._parts.append(f"<figure{wide}>{svg}{caption}</figure>")

    def text(self) -> str:
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f"<title>{escape(self._title)}</title><style>{STYLE}</style></head>\n<body>\n"
            + "\n".join(self._parts)
            + "\n</body></html>\n"
        )
