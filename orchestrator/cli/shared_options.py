"""What verbs that compose a sweep have in common: where its options and its code may come from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from sweeps.spec.errors import UserError

ConfigDir = Annotated[
    Path | None,
    typer.Option("--config-dir", "-cd", help="Folder with further options and sweeps.", show_default=False),
]
AllowTarget = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-target",
        metavar="PACKAGE",
        help="Let configuration files name trainers of this package; may be given several times.",
        show_default=False,
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
    words = list(overrides or [])
    if folder is None:
        return words
    if not folder.is_dir():
        raise UserError(f"--config-dir {str(folder)!r}: no such folder")
    return [f"hydra.searchpath=[file://{folder.absolute()}]", *words]
