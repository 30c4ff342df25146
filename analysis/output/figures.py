"""Figures for print: Altair charts with a caption, written as SVG, PNG or PDF without a browser.

Colours are Okabe and Ito's, told apart by colour-blind readers; ordered values take a sequential scale that
also survives a grey printer. A chart draws groups with intervals, never one line per run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd

from sweeps.manifest.atomic import write_atomically
from sweeps.spec import nearest
from sweeps.spec.errors import UserError
from sweeps.spec.text import label

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette without its yellow, which is too light for lines on paper."""

MAX_GROUPS = len(PALETTE)
"""Groups a chart tells apart; further ones are left out and the caption says so."""

WIDTH, HEIGHT = 420, 240
"""Plot area in pixels at 72 per inch: about a column of a page."""

LEVEL_LABEL = 7
"""Characters of a label that fits under a column of a heatmap without being turned."""

ENDINGS = ("svg", "png", "pdf")
"""Forms a figure can be saved in."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A chart with the words that belong under it."""

    chart: Any
    caption: str
    """What is shown, how many runs and seeds, and what the intervals mean."""

    def svg(self) -> str:
        return _extra("vl_convert").vegalite_to_svg(self.spec())

    def spec(self) -> str:
        """The chart as Vega-Lite JSON, not checked against the schema: that takes longer than drawing."""
        return self.chart.to_json(validate=False)

    def save(self, path: Path) -> None:
        """Write as SVG, PNG (at 200 dots per inch) or PDF, by the file's ending; by rename.

        Raises:
            UserError: for another ending.
        """
        vl_convert = _extra("vl_convert")
        ending = path.suffix.removeprefix(".")
        if ending not in ENDINGS:
            raise UserError(
                f"{path}: unknown figure format{nearest(ending, ENDINGS)}; use {', '.join(ENDINGS)}"
            )
        spec = self.spec()
        if ending == "svg":
            content = vl_convert.vegalite_to_svg(spec).encode()
        elif ending == "png":
            content = vl_convert.vegalite_to_png(spec, scale=200 / 72)
        else:
            content = vl_convert.vegalite_to_pdf(spec)
        write_atomically(path, content)


def _extra(module: str) -> Any:
    """A module that comes with the extra ``figures``, loaded when something is drawn.

    Raises:
        UserError: when it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise UserError(f"figures need {error.name}: pip install 'emsweep[figures]'") from error


def altair() -> Any:
    """The Altair module; errors as :func:`_extra`."""
    module = _extra("altair")
    # Frames are small (groups, not runs), and are put into the chart as they are.
    module.data_transformers.disable_max_rows()
    return module


def curves(
    frame: pd.DataFrame, *, x: str, y: str, color: str | None, x_title: str, y_title: str, share: bool = False
) -> Any:
    """Lines with bands from ``low`` to ``high``, one per value of ``color``; ``share`` shows per cent."""
    alt = altair()
    base = alt.Chart(_labelled(frame, color)).encode(
        x=alt.X(x, type="quantitative", title=x_title, axis=alt.Axis(tickMinStep=1)),
        **_color(color, frame),
    )
    line = base.mark_line(point=True, strokeWidth=1.5).encode(y=_quantity(y, y_title, share))
    band = base.mark_area(opacity=0.18).encode(y=_quantity("low", y_title, share), y2="high")
    return _styled(band + line)


def dots(
    frame: pd.DataFrame,
    *,
    y: str,
    x: str,
    x_title: str,
    color: str | None = None,
    zero: bool = False,
    share: bool = False,
) -> Any:
    """Horizontal dots with intervals from ``low`` to ``high``, one row per value of ``y``; ``share`` shows
    per cent.
    """
    alt = altair()
    order = [_text(v) for v in dict.fromkeys(frame[y].tolist())]
    rows = _labelled(frame, y, color)
    offset = {"yOffset": alt.YOffset(_field(color), type="nominal")} if color else {}
    base = alt.Chart(rows).encode(
        y=alt.Y(_field(y), type="nominal", sort=order, title=None), **offset, **_color(color, frame)
    )
    plain = {} if color else {"color": PALETTE[0]}
    ruled = base.mark_rule(strokeWidth=1.5, **plain).encode(x=_place("low", x_title, share), x2="high")
    layers = [
        ruled,
        base.mark_point(filled=True, size=45, opacity=1, **plain).encode(x=_place(x, x_title, share)),
    ]
    if zero:
        nil = (
            alt.Chart(pd.DataFrame({"x": [0.0]}))
            .mark_rule(strokeDash=[3, 3], color="#777777")
            .encode(x="x:Q")
        )
        layers.insert(0, nil)
    return _styled(alt.layer(*layers), height=max(60, 18 * len(rows) + 20))


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
    rows = _labelled(frame, x, y)
    order = {
        name: [
            _text(v) for v in dict.fromkeys(sorted(frame[name]) if _is_ordered(frame[name]) else frame[name])
        ]
        for name in (x, y)
    }
    angle = 0 if max(map(len, order[x]), default=0) <= LEVEL_LABEL else -90
    base = alt.Chart(rows).encode(
        x=alt.X(_field(x), type="nominal", sort=order[x], title=x_title, axis=alt.Axis(labelAngle=angle)),
        y=alt.Y(_field(y), type="nominal", sort=order[y], title=y_title),
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
    labels = base.mark_text(fontSize=11, aria=False).encode(text=alt.Text(text, type="nominal"))
    styled = _styled(tiles + labels, height=max(60, 34 * len(order[y])))
    return styled.properties(width=max(WIDTH, 44 * len(order[x])))


def scatter(
    frame: pd.DataFrame,
    *,
    x: str,
    y: str,
    x_title: str,
    y_title: str,
    color: str | None = None,
    share: bool = False,
) -> Any:
    """Points with vertical intervals from ``low`` to ``high``; ``share`` shows heights in per cent."""
    alt = altair()
    base = alt.Chart(_labelled(frame, color)).encode(x=_place(x, x_title), **_color(color, frame))
    bars = base.mark_rule(strokeWidth=1).encode(y=_quantity("low", y_title, share), y2="high")
    points = base.mark_point(filled=True, size=50, opacity=1).encode(y=_quantity(y, y_title, share))
    return _styled(bars + points)


def bars(frame: pd.DataFrame, *, x: str, y: str, x_title: str, y_title: str, color: str | None = None) -> Any:
    """A histogram from ready-made bins, its parts side by side in steps."""
    alt = altair()
    return _styled(
        alt.Chart(_labelled(frame, color))
        .mark_line(interpolate="step-after", strokeWidth=1.5)
        .encode(
            x=alt.X(x, type="quantitative", title=x_title), y=_quantity(y, y_title), **_color(color, frame)
        )
    )


def beside(charts: Sequence[Any]) -> Any:
    """Charts in a row, each with its own scales."""
    alt = altair()
    return alt.hconcat(*charts).resolve_scale(color="shared")


def keep_groups(frame: pd.DataFrame, column: str) -> tuple[pd.DataFrame, str]:
    """The first :data:`MAX_GROUPS` values of a column, and a sentence for the caption when some were left
    out.
    """
    values = list(dict.fromkeys(frame[column].tolist()))
    if len(values) <= MAX_GROUPS:
        return frame, ""
    kept = values[:MAX_GROUPS]
    return frame[frame[column].isin(kept)], f" Shown are {len(kept)} of {len(values)} values of {column}."


def _quantity(name: str, title: str, share: bool = False) -> Any:
    alt = altair()
    return alt.Y(name, type="quantitative", title=title, scale=alt.Scale(zero=False), axis=_axis(share))


def _place(name: str, title: str, share: bool = False) -> Any:
    alt = altair()
    return alt.X(name, type="quantitative", title=title, scale=alt.Scale(zero=False), axis=_axis(share))


def _axis(share: bool) -> Any:
    """About seven ticks: more run into each other at the width of a column."""
    alt = altair()
    return alt.Axis(tickCount=7, format="~%") if share else alt.Axis(tickCount=7)


def _color(column: str | None, frame: pd.DataFrame) -> dict[str, Any]:
    if column is None:
        return {}
    alt = altair()
    values = list(dict.fromkeys(frame[column].tolist()))
    domain = [_text(v) for v in values]
    ordered = len(values) > 2 and all(isinstance(v, (int, float)) for v in values)
    scale = (
        alt.Scale(domain=domain, scheme="viridis")
        if ordered
        else alt.Scale(domain=domain, range=list(PALETTE[: max(1, len(domain))]))
    )
    kind = "ordinal" if ordered else "nominal"
    legend = alt.Legend(symbolOpacity=1)  # else a band's faint fill is what the legend shows
    return {
        "color": alt.Color(_field(column), type=kind, scale=scale, sort=domain, title=column, legend=legend)
    }


def _is_ordered(values: pd.Series) -> bool:
    """Whether a column is numbers all through, which have an order of their own."""
    return pd.api.types.is_numeric_dtype(values.dtype) and bool(values.notna().all())


def _labelled(frame: pd.DataFrame, *columns: str | None) -> pd.DataFrame:
    """The frame with these columns as text, and all under names that Vega-Lite reads as one word."""
    named = frame.copy()
    for column in dict.fromkeys(c for c in columns if c):
        named[column] = [_text(v) for v in frame[column]]
    return named.rename(columns={c: _field(c) for c in named.columns})


def _field(column: str) -> str:
    return column.replace(".", "_").replace("[", "_").replace("]", "_")


def _text(value: Any) -> str:
    return "–" if value is None or value != value else label(value)


def _styled(chart: Any, *, height: int = HEIGHT) -> Any:
    return chart.properties(width=WIDTH, height=height)
