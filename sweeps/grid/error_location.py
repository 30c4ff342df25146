"""Where in a sweep file a mistake is: errors collect the path of keys they passed, and the path is looked up
in the YAML text.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sweeps.spec import SpecError


@contextlib.contextmanager
def at(*path: str | int) -> Iterator[None]:
    """Note on a :class:`SpecError` that it arose below ``path`` (keys and list positions) of the ``sweep:``
    node.
    """
    try:
        yield
    except SpecError as error:
        error.path = (*path, *getattr(error, "path", ()))  # type: ignore[attr-defined]
        raise


@contextlib.contextmanager
def mistakes_in(source: Path | None) -> Iterator[None]:
    """Put the sweep file and the line before a mistake that lies in it; one that came from elsewhere passes
    unchanged.
    """
    try:
        yield
    except SpecError as error:
        path = getattr(error, "path", None)
        if source is None or path is None:
            raise
        line = line_of(source, ("sweep", *path))
        if line is None:
            raise
        raise SpecError(f"{source.name} line {line}: {error}") from None


def line_of(source: Path, path: tuple[str | int, ...]) -> int | None:
    """Return the 1-based line where ``path`` stands in a YAML file, or ``None`` when it is not there."""
    import yaml

    try:
        node: Any = yaml.compose(source.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, yaml.YAMLError):
        return None
    line = None
    for part in path:
        if isinstance(node, yaml.MappingNode):
            entries = [(k, v) for k, v in node.value if k.value == part]
            if not entries:
                return None
            key, node = entries[-1]
            line = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:  # a scalar that stands for a list of one
            return line
    return line
