"""Arguments that several verbs take, and what their text means."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sweeps.spec.errors import UserError

if TYPE_CHECKING:
    from sweeps.manifest.manifest import Manifest

Directory = Annotated[Path, typer.Argument(metavar="D", help="Sweep directory.", show_default=False)]
PoolName = Annotated[str | None, typer.Option("--pool", help="ray, local or inline.", show_default=False)]
Address = Annotated[
    str | None, typer.Option("--address", help="Running Ray cluster, such as auto.", show_default=False)
]
Until = Annotated[
    str | None,
    typer.Option(
        "--until",
        help="Stop cleanly before this time: 2h, 90m, 3600s or 2030-01-31T08:00.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Filters = Annotated[
    list[str] | None,
    typer.Argument(metavar="[FILTER]...", help="axis=value or '!axis=value'; all must hold."),
]


def deadline_of(until: str | None) -> float | None:
    """Parse ``--until`` into Unix seconds.

    Raises:
        UserError: for a text that is no time, or none to come.
    """
    if until is None:
        return None
    from datetime import datetime

    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    now = time.time()
    try:
        if until[-1:] in units:
            limit = now + float(until[:-1]) * units[until[-1]]
        else:
            limit = datetime.fromisoformat(until).timestamp()
    except ValueError:
        raise UserError(f"--until {until}: is no time; write 2h, 90m, 3600s or 2030-01-31T08:00") from None
    if not now < limit < math.inf:
        raise UserError(f"--until {until}: must be a time to come; write 2h, 90m or 2030-01-31T08:00")
    return limit


def matching(manifest: Manifest, filters: Sequence[str]) -> list[int]:
    """Runs whose axes satisfy every filter.

    Raises:
        SpecError: for a filter that is none, or on an axis that does not exist.
    """
    from sweeps.grid.filters import parse_filter

    chosen = parse_filter(list(filters))
    chosen.check({axis.key: axis.kind for axis in manifest.axes})
    return [i for i in range(len(manifest)) if not filters or chosen.matches(manifest.axis_values(i))]
