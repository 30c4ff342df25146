"""A composed sweep as JSON: what a search makes its further runs of is frozen when it is launched, whatever
becomes of the files that it was written in.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweeps.compose import ComposedSweep
from sweeps.grid.axes import Interval
from sweeps.grid.filters import Filter, parse_filter
from sweeps.grid.grid import DeclaredAxis, Grid
from sweeps.grid.resolve_configs import Layers, Rule


def frozen(composed: ComposedSweep) -> dict[str, Any]:
    """What a space of axes, without zipped ones and sub-grids, was composed to."""
    grid, layers = composed.grid, composed.layers
    return {
        "axes": [
            {"key": a.key, **_written(a), **({} if a.when is None else {"when": str(a.when)})}
            for a in grid.axes
        ],
        "exclude": [str(rule) for rule in grid.excludes],
        "base": dict(layers.base),
        "options": {group: dict(named) for group, named in layers.options.items()},
        "rules": [{"when": str(rule.when), "assign": dict(rule.assign)} for rule in layers.rules],
        "choices": dict(composed.choices),
        "source": None if composed.source is None else str(composed.source),
    }


def thawed(
    node: Mapping[str, Any], *, name: str, options: Mapping[str, Any], overrides: tuple[str, ...]
) -> ComposedSweep:
    """The sweep that :func:`frozen` wrote down; the other arguments are a manifest's."""
    return ComposedSweep(
        name=name,
        layers=Layers(
            base=node["base"],
            options=node["options"],
            rules=[
                Rule(when=_filter(rule["when"], "set: when"), assign=rule["assign"]) for rule in node["rules"]
            ],
        ),
        grid=Grid(
            axes=tuple(
                DeclaredAxis(
                    key=a["key"],
                    values=(Interval(**a["interval"]),) if "interval" in a else tuple(a["values"]),
                    when=_filter(a["when"], f"axis {a['key']}: when") if "when" in a else None,
                )
                for a in node["axes"]
            ),
            excludes=tuple(_filter(text, "exclude") for text in node["exclude"]),
        ),
        choices=node["choices"],
        options=options,
        overrides=overrides,
        source=None if node["source"] is None else Path(node["source"]),
    )


def _written(a: DeclaredAxis) -> dict[str, Any]:
    if a.interval is None:
        return {"values": list(a.values)}
    return {"interval": {"low": a.interval.low, "high": a.interval.high, "log": a.interval.log}}


def _filter(text: str, what: str) -> Filter:
    return parse_filter(text, what)
