"""The ``emsweep`` command: ``emsweep --help``.

One module per family of verbs, each with a ``register(app)``. Modules import nothing heavy at top level;
Hydra, Ray and the data libraries are imported inside the command that needs them, so that ``--help`` answers
at once.

Exit status: 0 all well, 1 the sweep ended with failed runs or a check is not ok, 2 bad input and nothing
started, 130 interrupted and resumable.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from orchestrator.cli import (
    analyse,
    check,
    control,
    init,
    inspect,
    join,
    launch,
    merge,
    models,
    plan,
    select,
    tools,
)
from orchestrator.cli.examples import epilog
from orchestrator.cli.output import print_json, say
from orchestrator.cli.typer_internals import UsageError
from sweeps.spec.errors import (
    EXIT_BAD_INPUT,
    EXIT_INTERRUPTED,
    EXIT_NOT_OK,
    LostLockError,
    StoreError,
    UserError,
    bounded,
)

FAMILIES = (init, plan, check, launch, control, join, inspect, analyse, models, select, merge, tools)
"""Modules of verbs, in the order of ``--help``; each defines ``register(app)``."""


def build_app() -> typer.Typer:
    """Return the application with every family of verbs registered, in the order of ``--help``."""
    app = typer.Typer(
        name="emsweep",
        help="Launch, survive and explain very large sweeps of short fine-tuning runs.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for family in FAMILIES:
        family.register(app)
    for command in app.registered_commands:
        if not command.hidden:
            assert command.callback is not None
            command.epilog = epilog(command.name or command.callback.__name__)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"emsweep {importlib.metadata.version('emsweep')}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Launch, survive and explain very large sweeps of short fine-tuning runs."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; the one place where errors become messages."""
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        return int(build_app()(args=args, standalone_mode=False) or 0)
    except StoreError as error:
        _refuse(str(error), args)
        return EXIT_INTERRUPTED
    except LostLockError as error:
        _refuse(str(error), args)
        return EXIT_NOT_OK
    except UserError as error:
        return _refuse(str(error), args)
    except (typer.Abort, KeyboardInterrupt):
        say("interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone, for example `| head`; keep Python from complaining about it at
        # exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        why = f"{error.filename or 'a file'}: {error.strerror or error}"
        return _refuse(f"{why}; a sweep directory is mended with: emsweep repair DIR", args)
    except UsageError as error:
        return _refuse(error.format_message(), args)


def _refuse(message: str, args: Sequence[str]) -> int:
    message = bounded(message)
    if message:  # empty when Typer has already answered a bare `emsweep` with its help
        say(f"error: {message}")
    if "--json" in args:
        print_json({"error": message})
    return EXIT_BAD_INPUT
