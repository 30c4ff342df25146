"""``grid``: a sweep from axes in Python, for a notebook.

::

    from emsweep import grid

    lr = grid({"optim.lr": [1e-4, 3e-4], "seed": range(4)}, "sweep=quickstart", "model=tiny-64")
    lr.runs()                                 # a table: one row a run
    print(lr.plan().to_text())                # what would run, and what it would cost
    sweep = lr.launch("outputs/lr")           # what open_sweep("outputs/lr") gives

It says what ``emsweep launch`` says with the same words, so either can go on with the other's directory.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from analysis.sweep import Sweep
    from orchestrator.planning.plan import Plan
    from sweeps.manifest.manifest import Manifest

SHOWN = 10
"""Runs that a notebook shows of a grid."""


_BARE = re.compile(r"[A-Za-z_][\w./-]*")
"""Texts that Hydra's grammar takes without quotes …"""

_OTHER = ("true", "false", "null", "nan", "inf")
"""… but for these, which are no texts there."""


class AxesGrid:
    """Axes, the words that say the rest, and the runs that follow."""

    def __init__(self, words: Sequence[str], manifest: Manifest) -> None:
        self.words = tuple(words)
        """What ``emsweep launch`` takes for the same sweep."""
        self.manifest = manifest

    def __len__(self) -> int:
        return len(self.manifest)

    def __repr__(self) -> str:
        keys = ", ".join(axis.key for axis in self.manifest.axes)
        return f"grid of {len(self)} runs over {keys}: emsweep launch {shlex.join(self.words)}"

    def _repr_html_(self) -> str:
        from html import escape

        return f"<p>{escape(repr(self))}</p>{self.runs(SHOWN).to_html(index=False)}"

    def runs(self, limit: int | None = None) -> pd.DataFrame:
        """The runs, one row each: its id, its name, its value on every axis."""
        import pandas as pd

        runs = self.manifest
        num = len(self) if limit is None else min(limit, len(self))
        return pd.DataFrame(
            {"run_id": runs.run_ids[i], "name": runs.name(i), **runs.axis_values(i)} for i in range(num)
        )

    def plan(self, directory: str | Path | None = None) -> Plan:
        """What a launch would do and cost; starts nothing."""
        from orchestrator.planning.make_plan import make_plan

        return make_plan(list(self.words), None if directory is None else Path(directory))

    def launch(
        self,
        directory: str | Path | None = None,
        *,
        pool: str | None = None,
        allow_target: Iterable[str] = (),
    ) -> Sweep:
        """Run it, or what is missing of it, and open its directory.

        Args:
            directory: sweep directory; ``outputs/NAME`` by default.
            pool: ``ray``, ``local`` or ``inline``.
            allow_target: packages and modules of one's own whose code may run.

        Raises:
            UserError: for what cannot be launched, with value, rule and fix.
            KeyboardInterrupt: when interrupted; the same call goes on.
        """
        import typer

        from analysis.sweep import open_sweep
        from orchestrator.cli.launch import launch
        from orchestrator.planning.make_plan import OUTPUTS
        from sweeps.spec.errors import EXIT_INTERRUPTED

        folder = OUTPUTS / self.manifest.sweep if directory is None else Path(directory)
        try:
            launch(list(self.words), folder, pool, allow_target=list(allow_target), yes=True)
        except typer.Exit as ended:  # runs that failed are in the sweep
            if ended.exit_code == EXIT_INTERRUPTED:
                raise KeyboardInterrupt from None
        return open_sweep(folder)


def grid(axes: Mapping[str, Any], *words: str) -> AxesGrid:
    """The runs of a sweep whose axes are given in Python.

    Args:
        axes: Hydra key to its values, such as ``{"optim.lr": [1e-4, 3e-4], "seed": range(4)}``; a single
            value sets the key. ``+`` before a key adds one that the configuration does not have.
        words: what else ``emsweep launch`` takes: ``"sweep=quickstart"``, ``"model=tiny-64"``.

    Raises:
        SpecError: for an unknown key, a wrong value, an empty axis.
    """
    from orchestrator.planning.search_question import asked_runs
    from sweeps.compose import compose_sweep

    said = [*words, *(f"{key}={_values(key, values)}" for key, values in axes.items())]
    return AxesGrid(said, asked_runs(compose_sweep(said)).manifest)


def _values(key: str, values: Any) -> str:
    """Values as Hydra's words."""
    if isinstance(values, str | Mapping) or not isinstance(values, Iterable):
        return _word(values)
    words = [_word(value) for value in values]
    if not words:
        from sweeps.spec import SpecError

        raise SpecError(f"axis {key}: is empty; give at least one value, such as {{{key!r}: [1, 2]}}")
    return ",".join(words)


def _word(value: Any) -> str:
    """One value as Hydra's grammar writes it."""
    item = getattr(value, "item", None)
    plain = item() if callable(item) else value
    if plain is None or isinstance(plain, bool):
        return {None: "null", True: "true", False: "false"}[plain]
    if isinstance(plain, int):
        return str(int(plain))
    if isinstance(plain, float):
        return repr(float(plain)) if math.isfinite(plain) else str(float(plain))
    if isinstance(plain, str | Path):
        if _BARE.fullmatch(str(plain)) and str(plain).lower() not in _OTHER:
            return str(plain)
        escaped = str(plain).replace("\\", "\\\\").replace("'", "\\'")
        return f"'{escaped}'"
    if isinstance(plain, Mapping):
        return "{" + ",".join(f"{key}:{_word(part)}" for key, part in plain.items()) + "}"
    if isinstance(plain, Iterable):
        return "[" + ",".join(_word(part) for part in plain) + "]"
    from sweeps.spec import SpecError

    raise SpecError(f"axis value {plain!r}: a {type(plain).__name__} is no setting; give numbers or text")
