"""The one place that knows Hydra: composes a sweep once, with Hydra's own grammar, into plain values.

Also a Hydra application for those who know Hydra's flags::

    python -m sweeps.compose sweep=quickstart --cfg job
    python -m sweeps.compose --info defaults

A sweep is a file ``sweep/NAME.yaml`` on Hydra's search path (``sweeps/conf`` is on it;
``hydra.searchpath=[file:///dir]`` adds a folder), or any ``.yaml`` file named by its path. Its ``sweep:``
node declares axes and rules (:mod:`sweeps.grid.sweep_file`); the rest is configuration like any other. Words
on the command line win over the file: one value for an axis replaces it, several replace or append it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeps.compose.composer import Composer
from sweeps.compose.flags import completions, show
from sweeps.compose.session import CONFIG_MODULE, CONFIG_NAME, VERSION_BASE, opened
from sweeps.grid import sweep_file
from sweeps.grid.columns import SEED_KEY
from sweeps.grid.error_location import mistakes_in
from sweeps.grid.grid import DeclaredAxis, Grid
from sweeps.grid.resolve_configs import Layers
from sweeps.spec import GROUPS, SCALARS, SpecError
from sweeps.spec.errors import shown

__all__ = [
    "CONFIG_MODULE",
    "CONFIG_NAME",
    "VERSION_BASE",
    "ComposedSweep",
    "completions",
    "compose_sweep",
    "show",
]

AD_HOC = "adhoc"
"""Name of a sweep made of overrides alone."""

NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
"""Names of sweeps, which name directories."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ComposedSweep:
    """A sweep as it was asked for, in plain values."""

    name: str
    """Name of the sweep; its default directory is ``outputs/NAME``."""
    layers: Layers
    """Base configuration, the options that axes name, and the rules."""
    grid: Grid
    choices: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    """What is not part of any run: ``sharing``, ``budget``, ``cluster``."""
    overrides: tuple[str, ...] = ()
    source: Path | None = None
    about: str = ""
    """The question that the sweep answers, in its author's words."""

    @property
    def base(self) -> Mapping[str, Any]:
        """The configuration below the axes: groups, ``steps`` and ``seed``."""
        return self.layers.base


def compose_sweep(overrides: Sequence[str], grid: Grid | None = None) -> ComposedSweep:
    """Compose a sweep.

    Args:
        overrides: words such as ``sweep=quickstart``, ``optim.lr=1e-4,2e-4``, ``seed=range(16)``.
        grid: axes built in Python (:mod:`sweeps.grid.grid`), instead of a sweep file's.

    Raises:
        SpecError: for any mistake in the words or in the sweep file, with value, rule and fix.
    """
    with opened(overrides) as (loader, words):
        composer = Composer(loader, words)
        config = composer.base
        with mistakes_in(composer.source):
            node = _sweep_node(config["sweep"])
            declared = sweep_file.read_sweep(node, composer.written_values)
            if grid is not None:
                declared = sweep_file.Declared(grid=_typed(grid, composer), rules=declared.rules)
            declared = sweep_file.override(declared, composer.given(), composer.swept_keys)
            layers = composer.layers(declared)
        full = _with_seed(declared.grid, layers.base)
        options = {k: config[k] for k in config.raw if k not in (*GROUPS, *SCALARS, "sweep")}
        return ComposedSweep(
            name=_named(str(node.get("name") or composer.sweep or AD_HOC)),
            layers=layers,
            grid=full,
            choices={k: v for k, v in config.choices.items() if k in GROUPS},
            options=options | {"sharing": _switch("sharing", options.get("sharing"))},
            overrides=tuple(overrides),
            source=composer.source,
            about=str(node.get("about") or ""),
        )


def _with_seed(grid: Grid, base: Mapping[str, Any]) -> Grid:
    """Make the seed an axis of every sweep, so that every table has its column."""
    if SEED_KEY in grid.key_names() or not isinstance(base[SEED_KEY], int):
        return grid
    return dataclasses.replace(grid, axes=(*grid.axes, DeclaredAxis(key=SEED_KEY, values=(base[SEED_KEY],))))


def _typed(grid: Grid, composer: Composer) -> Grid:
    axes = tuple(
        dataclasses.replace(a, values=tuple(composer.written_values(a.key, list(a.values))))
        for a in grid.axes
    )
    return dataclasses.replace(grid, axes=axes, parts=tuple(_typed(p, composer) for p in grid.parts))


def _named(name: str) -> str:
    if not NAME.fullmatch(name):
        raise SpecError(f"sweep.name={name!r}: must be letters, digits, dots, dashes; it names a directory")
    return name


def _sweep_node(node: Any) -> Mapping[str, Any]:
    if not isinstance(node, Mapping):
        raise SpecError(
            f"sweep={shown(node)}: the sweep: node must hold axes; write `sweep: {{axes: {{seed: [0]}}}}`"
        )
    for key in ("name", "about"):
        if not isinstance(node.get(key), str | None):
            raise SpecError(f"sweep.{key}={shown(node[key])}: must be text")
    return node


def _switch(key: str, value: Any) -> bool:
    if value in (True, "on"):
        return True
    if value in (False, "off"):
        return False
    raise SpecError(f"{key}={value!r}: must be on or off")
