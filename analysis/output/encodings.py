"""How groups and quantities become marks: colour never alone, words and units on every axis.

Colours are Okabe and Ito's, told apart by colour-blind readers; ordered values take a sequential scale that
also survives a grey printer. Beside its colour every group has a shape, and every line a dash, of its own.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pandas as pd

from analysis.output.words import axis_words
from sweeps.spec.errors import UserError
from sweeps.spec.text import label

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette without its yellow, which is too light for lines on paper."""

SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-right")
DASHES = ([1, 0], [6, 2], [2, 2], [8, 2, 2, 2], [10, 4], [4, 1, 1, 1], [1, 3])
"""One for each colour; the first is a plain line."""

LABEL_PX, TITLE_PX = 10, 11
"""Font sizes. A drawing at most :data:`PRINT_PX` wide keeps 7 points when it is set 6.5 inches (468 points)
wide: 10 × 468 / 660 = 7.1.
"""

PRINT_PX = 660
"""Widest drawing, in pixels at 72 per inch."""

CHARACTER_PX = 5.6
"""Mean width of a character of a label."""

LABEL_LIMIT_PX = 170
"""Longest label of a row; a longer one is cut."""


def extra(module: str) -> Any:
    """A module that comes with the extra ``figures``, loaded when something is drawn.

    Raises:
        UserError: when it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise UserError(f"figures need {error.name}: pip install 'emsweep[figures]'") from error


def altair() -> Any:
    """The Altair module; errors as :func:`extra`."""
    module = extra("altair")
    # Frames are small (groups, not runs), and are put into the chart as they are.
    module.data_transformers.disable_max_rows()
    return module


def quantity(name: str, title: str, *, share: bool = False, across: bool = False, whole: bool = False) -> Any:
    """An axis of numbers: shares as per cent, their unit in the title; ``across`` for the horizontal one,
    ``whole`` for counts.

    About seven ticks: more run into each other at the width of a column.
    """
    alt = altair()
    form: dict[str, Any] = {"labelExpr": "format(datum.value * 100, '~g')"} if share else {}
    form |= {"tickMinStep": 1, "format": "d"} if whole else {}
    axis = alt.Axis(tickCount=7, titleLimit=PRINT_PX, **form)
    channel = alt.X if across else alt.Y
    return channel(name, type="quantitative", title=title, scale=alt.Scale(zero=False), axis=axis)


def group_channels(
    column: str | None, values: list[Any], *, dashes: bool, shapes: bool, filled: bool = True
) -> dict[str, Any]:
    """Colour of each group, and what tells groups apart without it: dashes of lines, shapes of points.

    Args:
        filled: whether the legend shows filled shapes; else it shows lines.
    """
    if column is None:
        return {}
    alt = altair()
    domain = [text_of(v) for v in values]
    ordered = len(values) > 2 and all(isinstance(v, (int, float)) for v in values)
    per_row = max(1, int(PRINT_PX // (40 + CHARACTER_PX * max(map(len, domain), default=1))))
    # symbolOpacity, symbolStrokeWidth: else a band's faint fill and a line's dash are what the legend shows.
    plain: dict[str, Any] = {"symbolOpacity": 1} | ({"symbolStrokeWidth": 0} if filled else {})
    legend = alt.Legend(
        **plain, orient="bottom", direction="horizontal", columns=per_row, labelLimit=LABEL_LIMIT_PX
    )
    kind = "ordinal" if ordered else "nominal"
    common: dict[str, Any] = {"sort": domain}
    common |= {"title": axis_words(column), "legend": legend}
    colours = {"scheme": "viridis"} if ordered else {"range": list(PALETTE[: max(1, len(domain))])}
    channels = {
        "color": alt.Color(field_of(column), scale=alt.Scale(domain=domain, **colours), type=kind, **common)
    }
    if dashes:
        scale = alt.Scale(domain=domain, range=[list(DASHES[i % len(DASHES)]) for i in range(len(domain))])
        channels["strokeDash"] = alt.StrokeDash(field_of(column), scale=scale, type="nominal", **common)
    if shapes:
        scale = alt.Scale(domain=domain, range=[SHAPES[i % len(SHAPES)] for i in range(len(domain))])
        channels["shape"] = alt.Shape(field_of(column), scale=scale, type="nominal", **common)
    return channels


def labelled(frame: pd.DataFrame, *columns: str | None) -> pd.DataFrame:
    """The frame with these columns as text, and all under names that Vega-Lite reads as one word."""
    named = frame.copy()
    for column in dict.fromkeys(c for c in columns if c):
        named[column] = [text_of(v) for v in frame[column]]
    return named.rename(columns={c: field_of(c) for c in named.columns})


def field_of(column: str) -> str:
    return column.replace(".", "_").replace("[", "_").replace("]", "_")


def text_of(value: Any) -> str:
    return "–" if value is None or value != value else label(value)


def label_px(texts: list[str]) -> float:
    """Width that the longest of some labels takes."""
    return min(LABEL_LIMIT_PX, CHARACTER_PX * max(map(len, texts), default=0))


def sized(chart: Any, width: float, height: float) -> Any:
    return chart.properties(width=round(width), height=round(height))


def for_print(chart: Any) -> Any:
    """The finished chart with the font sizes of every label."""
    fonts = {"labelFontSize": LABEL_PX, "titleFontSize": TITLE_PX}
    axis = fonts | {"titleFontWeight": "normal"}
    return chart.configure(  # in one call: each copies the whole chart several times
        axis=axis | {"labelLimit": LABEL_LIMIT_PX},
        legend=axis,
        title={"fontSize": LABEL_PX, "fontWeight": "normal", "anchor": "start"},
        header=fonts,
    )
