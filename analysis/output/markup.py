"""Pieces of HTML that stand by themselves in a page or in a notebook: no script, no link, nothing fetched."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from html import escape

_ids = re.compile(r'(id="|url\(#|href="#)([^")]+)')

_count = itertools.count(1)

NOTEBOOK_STYLE = (
    "<style>.emsweep{color:inherit;font-size:.9em}.emsweep table{border-collapse:collapse}"
    ".emsweep th,.emsweep td{padding:.1em .6em;text-align:right!important;white-space:nowrap}"
    ".emsweep .text{text-align:left!important}.emsweep .note{opacity:.75;font-size:.9em}"
    ".emsweep figure{margin:.5em 0}.emsweep svg{background:#fff;max-width:100%;height:auto}</style>"
)
"""How pieces look in a cell's output, in a light and in a dark notebook."""


def attribute(name: str) -> str:
    """``class="name"`` behind a space; empty without a name."""
    return f' class="{name}"' if name else ""


def row_html(cells: Sequence[str], kinds: Sequence[str]) -> str:
    inner = (f"<td{attribute(k)}>{escape(c)}</td>" for c, k in zip(cells, kinds, strict=True))
    return f"<tr>{''.join(inner)}</tr>"


def table_html(
    headers: Sequence[str], kinds: Sequence[str], rows: Iterable[Sequence[str]], notes: Iterable[str] = ()
) -> str:
    """A table of texts with its notes; ``kinds`` are the classes of its columns."""
    head = "".join(f"<th{attribute(k)}>{escape(h)}</th>" for h, k in zip(headers, kinds, strict=True))
    body = "".join(row_html(row, kinds) for row in rows)
    marks = "".join(f'<div class="note">{escape(note)}</div>' for note in notes)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{marks}"


def own_names(svg: str, number: int) -> str:
    """A drawing whose internal names do not meet those of the others on its page."""
    return _ids.sub(lambda m: f"{m[1]}f{number}-{m[2]}", svg)


def lines_html(lines: Iterable[str]) -> str:
    """Sentences, a line each."""
    return "".join(f"<div>{escape(line)}</div>" for line in lines)


def figure_html(svg: str, caption: str) -> str:
    """A drawing with its caption, to be shown beside any others."""
    drawing = own_names(svg, 1000 + next(_count))
    return f'<figure>{drawing}<figcaption class="note">{escape(caption)}</figcaption></figure>'


def in_notebook(*pieces: str) -> str:
    """What a notebook shows below a cell."""
    return f'<div class="emsweep">{NOTEBOOK_STYLE}{"".join(pieces)}</div>'


def title_html(text: str) -> str:
    return f"<strong>{escape(text)}</strong>"
