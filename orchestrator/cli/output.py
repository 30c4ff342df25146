"""What commands print: one JSON object on standard output for scripts, or text for people."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from sweeps.spec.errors import UserError
from sweeps.spec.printable import CONTROL, printable
from sweeps.spec.redaction import redact


def print_json(value: Mapping[str, Any]) -> None:
    """Print exactly one JSON object; NaN and infinities become ``null``."""
    sys.stdout.write(json_line(_finite(value)) + "\n")
    sys.stdout.flush()


def json_line(value: Any) -> str:
    """JSON on one line, with every control character as an escape of JSON's."""
    text = json.dumps(value, ensure_ascii=False)
    return CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def echo(text: object, *, nl: bool = True) -> None:
    """Print text for people on standard output; whatever wrote it, it moves no cursor."""
    typer.echo(printable(str(text)), nl=nl)


def say(text: str) -> None:
    """Print a line for people on standard error, so that standard output stays free for results."""
    sys.stderr.write(printable(redact(text, os.environ, hexadecimal=False)) + "\n")
    sys.stderr.flush()


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in one line that a file of results cannot be written."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); name a file in a folder of yours with --output"
        ) from error


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0.0 else None
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return value
