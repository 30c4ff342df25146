"""Lines of a submitted job that run as code: they must be ours, or this user's own words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Any

import yaml

from orchestrator.trust.consent import names
from sweeps.spec.errors import UserError

CODE_KEYS = (
    "job.setup",
    "job.image",
    "job.sbatch",
    "job.container.image",
    "job.container.mounts",
    "environment",
)
"""Keys below ``cluster`` whose value is code, chooses it, or changes what code is loaded (``LD_PRELOAD``)."""


def require_own_lines(options: Mapping[str, Any], words: Sequence[str], *, trust: bool) -> None:
    """Refuse a job with code that only a file asks for.

    Args:
        words: overrides as this user typed them.

    Raises:
        UserError: naming the key, the override and the flag.
    """
    cluster = options.get("cluster") or {}
    shipped = _shipped(str(cluster.get("submit")))
    for key in CODE_KEYS:
        for name, value in _leaves(key, _at(cluster, key)):
            if trust or value in (None, "", [], _at(shipped, name)) or names(words, f"cluster.{name}"):
                continue
            raise UserError(
                f"cluster.{name}={value!r}: a file puts code into the job; if you trust it, give "
                f"cluster.{name}=… on the command line, or add --trust"
            )


def _shipped(system: str) -> Mapping[str, Any]:
    """The cluster option of ours for a queue."""
    file = resources.files("sweeps.conf").joinpath("cluster", f"{system}.yaml")
    return yaml.safe_load(file.read_text()) if file.is_file() else {}


def _at(values: Mapping[str, Any], key: str) -> Any:
    value: Any = values
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(f"{name}.{key}", inner)
    else:
        yield name, value
