"""Figures for print: Altair charts with a caption, written as SVG, PNG or PDF without a browser.

A chart draws groups with intervals, never one line per run. Set 6.5 inches wide, no label is below 7 points.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from analysis.output.collapsed import split_collapsed
from analysis.output.encodings import (
    LABEL_LIMIT_PX,
    PALETTE,
    PRINT_PX,
    altair,
    field_of,
    group_channels,
    label_px,
    labelled,
    quantity,
    sized,
    text_of,
)
from analysis.output.words import axis_words
from sweeps.spec.metrics import MetricInfo

MAX_GROUPS = len(PALETTE)
"""Groups a chart tells apart; further ones are left out and the caption says so."""

WIDTH, HEIGHT = 420, 240
"""Plot area in pixels at 72 per inch: about a column of a page."""

APART_HEIGHT = 90
"""Height of the panel of groups that lie far from the rest."""

AXIS_PX = 62
"""Room that a vertical axis with its title takes."""

LEVEL_LABEL = 7
"""Characters of a label that fits under a column of a heatmap without being turned."""

APART = "far from the rest: a scale of its own"


def titled(words: str, info: MetricInfo) -> str:
    """Words with the unit of a metric: ``gain over base (points)``."""
    return f"{words} ({info.axis_unit})" if info.axis_unit else words


def curves(
    frame: pd.DataFrame,
    *,
    x: str,
    y: str,
    color: str | None,
    x_title: str,
    y_title: str,
    share: bool = False,
    width: int = WIDTH,
    height: int = HEIGHT,
) -> Any:
    """Lines with bands from ``low`` to ``high``, one per value of ``color``; ``share`` shows per cent.

    Groups that collapse are drawn below the others, on a scale of their own.
    """
    alt = altair()
    near, far = split_collapsed(frame, color, "low", "high")
    values = _values(frame, color)

    def panel(rows: pd.DataFrame, tall: int, title: str, name: str = "") -> Any:
        across = alt.X(x, type="quantitative", title=title, axis=alt.Axis(tickMinStep=1, tickCount=7))
        base = alt.Chart(labelled(rows, color), **({"title": name} if name else {})).encode(x=across)
        band = base.mark_area(opacity=0.18).encode(
            y=quantity("low", y_title, share=share), y2="high", **_colour_of(color, values)
        )
        line = base.mark_line(strokeWidth=1.5).encode(
            y=quantity(y, y_title, share=share),
            **group_channels(color, values, dashes=True, shapes=False),
        )
        dots = base.mark_point(filled=True, size=32, opacity=1).encode(
            y=quantity(y, y_title, share=share), **group_channels(color, values, dashes=False, shapes=True)
        )
        return sized(alt.layer(band, line, dots), width, tall)

    if far is None:
        return panel(frame, height, x_title)
    panels = [panel(near, height - APART_HEIGHT // 2, ""), panel(far, APART_HEIGHT, x_title, APART)]
    return alt.vconcat(*panels, spacing=8, resolve=_shared("color", "strokeDash", "shape"))


def dots(
    frame: pd.DataFrame,
    *,
    y: str,
    x: str,
    x_title: str,
    color: str | None = None,
    zero: bool = False,
    share: bool = False,
    total: float = PRINT_PX,
) -> Any:
    """Horizontal dots with intervals from ``low`` to ``high``, one row per value of ``y``; ``share`` shows
    per cent. Rows far from the others are drawn below them, on a scale of their own.

    Args:
        total: width of the drawing with the labels of its rows.
    """
    alt = altair()
    near, far = split_collapsed(frame, y, "low", "high")
    values = _values(frame, color)
    width = max(120, min(WIDTH, total - AXIS_PX - label_px([text_of(v) for v in frame[y]])))
    rows_title = axis_words(y) if "." in y else None

    def panel(part: pd.DataFrame, title: str, name: str = "") -> Any:
        rows = labelled(part, y, color)
        order = [text_of(v) for v in dict.fromkeys(part[y].tolist())]
        offset = {"yOffset": alt.YOffset(field_of(color), type="nominal")} if color else {}
        axis = alt.Axis(labelLimit=LABEL_LIMIT_PX)
        base = alt.Chart(rows, **({"title": name} if name else {})).encode(
            y=alt.Y(field_of(y), type="nominal", sort=order, title=rows_title, axis=axis), **offset
        )
        plain = {} if color else {"color": PALETTE[0]}
        place = quantity(x, title, share=share, across=True)
        low = quantity("low", title, share=share, across=True)
        layers = [
            base.mark_rule(strokeWidth=1.5, **plain).encode(x=low, x2="high", **_colour_of(color, values)),
            base.mark_point(filled=True, size=45, opacity=1, **plain).encode(
                x=place, **group_channels(color, values, dashes=False, shapes=True)
            ),
        ]
        if zero:
            nil = alt.Chart(pd.DataFrame({"x": [0.0]})).mark_rule(strokeDash=[3, 3], color="#777777")
            layers.insert(0, nil.encode(x="x:Q"))
        return sized(alt.layer(*layers), width, max(36, 18 * len(rows) + 20))

    if far is None:
        return panel(frame, x_title)
    panels = [panel(near, ""), panel(far, x_title, APART)]
    return alt.vconcat(*panels, spacing=8, resolve=_shared("color", "shape"))


def heatmap(
    frame: pd.DataFrame,
    *,
    x: str,
    y: str,
    value: str,
    text: str,
    x_title: str,
    y_title: str,
    signed: bool = True,
    says: str | None = None,
    address: str | None = None,
) -> Any:
    """Cells coloured by ``value`` with ``text`` written in them.

    Args:
        x: column from left to right.
        y: column from above.
        signed: blue below zero and orange above; otherwise darker blue for more.
        says: column with what a cell says when pointed at, for people who hear the page too.
        address: column with the link that a cell is, a whole address.
    """
    alt = altair()
    rows = labelled(frame, x, y)
    order = {
        name: [
            text_of(v)
            for v in dict.fromkeys(sorted(frame[name]) if _is_ordered(frame[name]) else frame[name])
        ]
        for name in (x, y)
    }
    angle = 0 if max(map(len, order[x]), default=0) <= LEVEL_LABEL else -90
    base = alt.Chart(rows).encode(
        x=alt.X(field_of(x), type="nominal", sort=order[x], title=x_title, axis=alt.Axis(labelAngle=angle)),
        y=alt.Y(field_of(y), type="nominal", sort=order[y], title=y_title),
    )
    if signed:
        limit = float(frame[value].abs().max()) or 1.0
        scale = alt.Scale(domain=[-limit, 0, limit], range=[PALETTE[0], "#f7f7f7", PALETTE[1]])
    else:  # not to the dark end of the scheme, where black words could not be read
        scale = alt.Scale(scheme=alt.SchemeParams(name="blues", extent=[0, 0.65]), zero=False)
    more = {"description": alt.Description(says, type="nominal")} if says else {}
    more |= {"href": alt.Href(address, type="nominal")} if address else {}
    tiles = base.mark_rect().encode(
        color=alt.Color(value, type="quantitative", scale=scale, legend=None), **more
    )
    words = base.mark_text(fontSize=11, aria=False).encode(text=alt.Text(text, type="nominal"))
    room = PRINT_PX - AXIS_PX - label_px(order[y])
    width = max(min(WIDTH, room), 44 * len(order[x]))
    return sized(tiles + words, width, max(60, 34 * len(order[y])))


def scatter(
    frame: pd.DataFrame,
    *,
    x: str,
    y: str,
    x_title: str,
    y_title: str,
    color: str | None = None,
    share: bool = False,
    width: int = WIDTH,
    height: int = HEIGHT,
) -> Any:
    """Points with vertical intervals from ``low`` to ``high``; ``share`` shows heights in per cent."""
    alt = altair()
    values = _values(frame, color)
    base = alt.Chart(labelled(frame, color)).encode(x=quantity(x, x_title, across=True))
    bars = base.mark_rule(strokeWidth=1).encode(
        y=quantity("low", y_title, share=share), y2="high", **_colour_of(color, values)
    )
    points = base.mark_point(filled=True, size=50, opacity=1).encode(
        y=quantity(y, y_title, share=share), **group_channels(color, values, dashes=False, shapes=True)
    )
    return sized(bars + points, width, height)


def bars(
    frame: pd.DataFrame,
    *,
    x: str,
    y: str,
    x_title: str,
    y_title: str,
    color: str | None = None,
    share: bool = False,
) -> Any:
    """A histogram from ready-made bins, its parts side by side in steps; ``share`` shows places in per
    cent.
    """
    alt = altair()
    steps = alt.Chart(labelled(frame, color)).mark_line(interpolate="step-after", strokeWidth=1.5)
    channels = group_channels(color, _values(frame, color), dashes=True, shapes=False, filled=False)
    across = quantity(x, x_title, share=share, across=True)
    is_count = pd.api.types.is_integer_dtype(frame[y].dtype)
    return sized(steps.encode(x=across, y=quantity(y, y_title, whole=is_count), **channels), WIDTH, HEIGHT)


def beside(charts: Sequence[Any], *, fit: bool = True) -> Any:
    """Charts in a row, each with its own scales; ``fit`` makes them as narrow as a page asks."""
    alt = altair()
    if fit:
        room = PRINT_PX / len(charts) - AXIS_PX - 12
        for chart in charts:
            _narrow(chart, room)
    return alt.hconcat(*charts, resolve=_shared("color", "strokeDash", "shape"))


def _shared(*channels: str) -> dict[str, Any]:
    """What panels share, said when they are joined: each later change of a chart copies it several times."""
    return {"scale": dict.fromkeys(channels, "shared")}


def _narrow(chart: Any, room: float) -> None:
    """Make every panel of a chart fit."""
    for part in getattr(chart, "vconcat", [chart]):
        part.width = round(min(part.width, room))


def keep_groups(
    frame: pd.DataFrame, column: str, value: str, *, smallest: bool = False
) -> tuple[pd.DataFrame, str]:
    """The best :data:`MAX_GROUPS` values of a column by each one's last ``value``, in their own order, and a
    sentence for the caption when some were left out.
    """
    groups = list(dict.fromkeys(frame[column].tolist()))
    if len(groups) <= MAX_GROUPS:
        return frame, ""
    last = frame.dropna(subset=[value]).groupby(column, sort=False, observed=True, dropna=False)[value].last()
    kept = set(last.sort_values(ascending=smallest).index[:MAX_GROUPS])
    text = f" Shown are the best {MAX_GROUPS} of {len(groups)} values of {column}."
    return frame[frame[column].isin(kept)], text


def _values(frame: pd.DataFrame, color: str | None) -> list[Any]:
    return list(dict.fromkeys(frame[color].tolist())) if color else []


def _colour_of(color: str | None, values: list[Any]) -> dict[str, Any]:
    """Colour alone, of bands and rules: the line or point that they belong to says the rest."""
    return group_channels(color, values, dashes=False, shapes=False)


def _is_ordered(values: pd.Series) -> bool:
    """Whether a column is numbers all through, which have an order of their own."""
    return pd.api.types.is_numeric_dtype(values.dtype) and bool(values.notna().all())
