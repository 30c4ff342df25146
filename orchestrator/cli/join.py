"""The verb that gives a machine to a sweep: join."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from orchestrator.cli.output import print_json, say
from orchestrator.cli.shared_options import AsJson, Directory, Trust
from sweeps.spec.errors import EXIT_INTERRUPTED, UserError

NOTICE_S = 60.0
"""Seconds that work gets to finish here after a notice, unless said."""


def register(app: typer.Typer) -> None:
    app.command()(join)


def join(
    directory: Directory,
    cpus: Annotated[
        int | None, typer.Option(help="Cores to offer; all unless given.", show_default=False)
    ] = None,
    gpus: Annotated[
        int | None, typer.Option(help="GPUs to offer; all unless given.", show_default=False)
    ] = None,
    stay: Annotated[bool, typer.Option("--stay", help="Stay while no run waits.")] = False,
    notice_s: Annotated[
        float, typer.Option("--notice", help="Seconds that work gets to finish after SIGTERM or SIGUSR1.")
    ] = NOTICE_S,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Give this machine to a sweep, whose head may move meanwhile, until no run is left for it.

    Leaves with status 0 when it is not needed any more, with 130 when it was told to go or there is no head.
    """
    from orchestrator.store.layout import Layout
    from orchestrator.store.opening import open_manifest
    from orchestrator.submit.joining import Joining
    from orchestrator.trust.gate import is_trusted

    for name, number in (("cpus", cpus), ("gpus", gpus), ("notice", notice_s)):
        if number is not None and not 0 <= number < math.inf:
            raise UserError(f"--{name} {number:g}: must be a number that is at least 0")
    if not directory.is_dir():
        raise UserError(f"directory {str(directory)!r}: does not exist; give that of a launched sweep")
    if not trust and not is_trusted(*open_manifest(directory)):
        raise UserError(
            f"directory {str(directory)!r}: says whose work this machine would do, and this user has not "
            "launched it; if you trust it, add --trust"
        )
    joining = Joining(Layout(directory), num_cpus=cpus, num_gpus=gpus, stays=stay, notice_s=notice_s, say=say)
    stayed = joining.run()
    if as_json:
        print_json({"dir": str(directory), "parting": stayed.parting, "joined": stayed.num_joined})
    else:
        say(f"left: {stayed.parting}; joined {stayed.num_joined} times")
    if stayed.returns:
        raise typer.Exit(EXIT_INTERRUPTED)
