"""A sweep's learning-rate curves as a figure."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.output.encodings import PALETTE, altair
from analysis.output.figure import Figure
from sweeps.cost.schedule_curves import Curve

COLUMNS = 3
"""Panels side by side."""

PANEL_WIDTH, PANEL_HEIGHT = 150, 90
"""Size of a panel in pixels: three of them are about a page's width."""


def schedule_figure(curves: Sequence[Curve]) -> Figure:
    """One small panel per curve, all on the same vertical scale."""
    alt = altair()
    rows = [
        {"schedule": f"{c.label}, {c.steps} steps", "step": step, "multiplier": value}
        for c in curves
        for step, value in enumerate(c.multipliers, start=1)
    ]
    order = [f"{c.label}, {c.steps} steps" for c in curves]
    chart = (
        alt.Chart(pd.DataFrame(rows))
        .mark_line(interpolate="step-after", point={"size": 12}, color=PALETTE[0], strokeWidth=1.5)
        .encode(
            x=alt.X("step:Q", title="optimizer step", axis=alt.Axis(tickMinStep=1, grid=False)),
            y=alt.Y("multiplier:Q", title="share of the peak rate", scale=alt.Scale(domain=[0, 1])),
        )
        .properties(width=PANEL_WIDTH, height=PANEL_HEIGHT)
        .facet(facet=alt.Facet("schedule:N", sort=order, title=None), columns=COLUMNS)
        .resolve_scale(x="independent")
    )
    return Figure(chart=chart, caption="Learning rate of each optimizer step as a share of the peak rate.")
