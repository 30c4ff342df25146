"""The verb that begins a project of one's own: init."""

from __future__ import annotations

import re
import shlex
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.output import echo, print_json
from orchestrator.cli.shared_options import AsJson
from sweeps.manifest.atomic import write_atomically
from sweeps.spec.errors import UserError

FILES = {"NAME.yaml": "sweep.yaml.txt", "train.py": "train.py.txt", "test_train.py": "test_train.py.txt"}
"""File of the project to its template; ``NAME`` stands for the folder's name."""

RESULTS = "results"
"""Folder of the project that the launch line names for the sweep directory."""

_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*")


def register(app: typer.Typer) -> None:
    app.command()(init)


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="NAME", help="Folder to write to, such as mine or projects/mine.")
    ],
    as_json: AsJson = False,
) -> None:
    """Write a sweep file, a trainer and a test to begin with, and print the line that launches them."""
    written = begin(folder)
    if as_json:
        print_json(written)
        return
    for path in written["files"]:
        echo(f"wrote {path}")
    echo(f"\nLaunch it:\n  {written['launch']}")
    echo(f"then look at it:\n  {written['table']}")
    echo(f"and test it:\n  {written['test']}")


def begin(folder: Path) -> dict[str, str | list[str]]:
    """Write the files of a new project; return their paths and the lines to run.

    Raises:
        UserError: for a name that no file can have, or when one of the files is there already.
    """
    name = folder.name
    if not _NAME.fullmatch(name):
        raise UserError(
            f"init {str(folder)!r}: {name!r} is no name of a folder; use letters, digits, - and _"
        )
    paths = {folder / file.replace("NAME", name): template for file, template in FILES.items()}
    there = [str(path) for path in paths if path.exists()]
    if there:
        raise UserError(f"init {str(folder)!r}: would overwrite {', '.join(there)}; give another NAME")
    sweep, results = folder / f"{name}.yaml", folder / RESULTS
    launch = ["emsweep", "launch", f"sweep={sweep}", "--dir", str(results), "--allow-target", "train"]
    lines = {
        "LAUNCH": shlex.join(launch),
        "TEST": shlex.join(["pytest", str(folder)]),
        "NAME": name,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, template in paths.items():
            write_atomically(path, _filled(template, lines).encode())
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"init {str(folder)!r}: cannot be written ({why}); give a folder of yours") from error
    return {
        "folder": str(folder),
        "files": [str(path) for path in paths],
        "launch": lines["LAUNCH"],
        "table": shlex.join(["emsweep", "table", str(results)]),
        "test": lines["TEST"],
    }


def _filled(template: str, lines: dict[str, str]) -> str:
    text = (resources.files("orchestrator.cli") / "templates" / template).read_text()
    return re.sub("|".join(lines), lambda match: lines[match[0]], text)
