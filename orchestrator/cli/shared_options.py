"""Arguments and options that several verbs take, and what their text means."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from sweeps.spec.errors import UserError

Directory = Annotated[
    Path,
    typer.Argument(metavar="D", help="Sweep directory, finished or still running.", show_default=False),
]
SweepFolder = Annotated[
    Path | None, typer.Option("--dir", help="Sweep directory; outputs/NAME unless given.", show_default=False)
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[OVERRIDE]...",
        help="Hydra overrides: sweep=NAME, model=tiny-64,tiny-96, seed=range(16).",
        show_default=False,
    ),
]
Filters = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[FILTER]...",
        help="Which runs: axis=value, '!axis=value', axis>=value; all must hold.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
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
ConfigDir = Annotated[
    Path | None,
    typer.Option("--config-dir", "-cd", help="Folder with further options and sweeps.", show_default=False),
]
AllowTarget = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-target",
        metavar="PACKAGE",
        help="Let files name trainers of this package; may be given several times.",
        show_default=False,
    ),
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust", help="Let these files run code: any trainer, a model's own code, shell lines of a job."
    ),
]
MetricsPort = Annotated[
    int | None,
    typer.Option(
        "--metrics-port", help="Answer Prometheus on this port of 127.0.0.1 meanwhile.", show_default=False
    ),
]


def with_config_dir(overrides: Sequence[str] | None, folder: Path | None) -> list[str]:
    """The words of the command line, ``--config-dir`` among them in Hydra's own terms.

    Raises:
        UserError: when there is no such folder.
    """
    given = list(overrides or [])
    if folder is None:
        return given
    if not folder.is_dir():
        raise UserError(f"--config-dir {str(folder)!r}: no such folder")
    return [f"hydra.searchpath=[file://{folder.absolute()}]", *given]


def deadline_of(until: str | None) -> float | None:
    """Parse ``--until`` into Unix seconds.

    Raises:
        UserError: for a text that is no time, or none to come.
    """
    if until is None:
        return None
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


def split_names(text: str | None) -> list[str] | None:
    """``a,b`` as a list of names; ``None`` stays so."""
    return None if text is None else [word.strip() for word in text.split(",") if word.strip()]
