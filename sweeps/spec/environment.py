"""References to the environment, ``${oc.env:NAME}``: stored as written, looked up where they are used. Pure.

What a sweep is asked with is written down (``sweep.yaml``, the manifest), and the environment holds secrets.
So the ``cluster`` options and ``sweep.about`` keep the reference, and a run's configuration, whose values are
its identity, may refer to no variable with a secret's name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sweeps.spec.errors import SpecError
from sweeps.spec.redaction import SECRET_NAME

REFERENCE = re.compile(r"\$\{oc\.env:\s*([A-Za-z_]\w*)\s*(?:,\s*([^${}]*?)\s*)?\}")
"""A reference, with its name and perhaps a default."""

_OPEN, _CLOSE = "\ue000", "\ue001"
"""What stands for the braces of a reference that is left alone; private characters of Unicode."""


def sealed(value: Any) -> Any:
    """The value with its references put out of Hydra's reach."""
    return _each(value, lambda text: REFERENCE.sub(lambda m: f"{_OPEN}{m[0][2:-1]}{_CLOSE}", text))


def unsealed(value: Any) -> Any:
    """What :func:`sealed` was given."""
    return _each(value, lambda text: text.replace(_OPEN, "${").replace(_CLOSE, "}"))


def filled_in(value: Any, environment: Mapping[str, str]) -> Any:
    """The value with what its references stand for now.

    Raises:
        SpecError: for a variable that is not set and has no default.
    """

    def found(match: re.Match[str]) -> str:
        if match[1] in environment:
            return environment[match[1]]
        if match[2] is None:
            raise SpecError(f"${{oc.env:{match[1]}}}: the variable is not set; set it, or give a default")
        return match[2].strip("'\"")

    return _each(value, lambda text: REFERENCE.sub(found, text))


def require_no_secret(value: Any, key: str) -> None:
    """Refuse a value that would write a secret down.

    Raises:
        SpecError: naming the key and the variable.
    """

    def check(text: str) -> str:
        for match in REFERENCE.finditer(text):
            if SECRET_NAME.search(match[1]):
                raise SpecError(
                    f"{key}=${{oc.env:{match[1]}}}: would write a secret into the sweep directory; let the "
                    f"trainer read the variable, os.environ[{match[1]!r}]"
                )
        return text

    _each(value, check)


def _each(value: Any, change: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _each(inner, change) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_each(inner, change) for inner in value]
    return change(value) if isinstance(value, str) else value
