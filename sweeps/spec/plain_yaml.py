"""YAML of unknown origin: read as plain values, and refused where it is made to exhaust its reader.

An alias repeats what it points to, so that a few lines can stand for billions of values: whoever walks them,
prints them or copies them never ends.
"""

from __future__ import annotations

from typing import IO, Any

import yaml

MAX_VALUES = 1_000_000
"""Values that a document may stand for; the largest sweep files have a few hundred."""


def load_plain(text: str | bytes) -> Any:
    """Parse a document.

    Raises:
        yaml.YAMLError: when it is none, has tags, or stands for more than :data:`MAX_VALUES` values.
        ValueError: when it is no text.
    """
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        _count(node, {})
        return None if node is None else loader.construct_document(node)
    except RecursionError:
        raise yaml.YAMLError("is nested too deeply") from None
    finally:
        loader.dispose()


def require_finite(text: str | bytes | IO[bytes]) -> None:
    """Raise :class:`yaml.YAMLError` for a document whose aliases multiply beyond all use, or that is nested
    beyond what can be read.
    """
    try:
        _count(yaml.compose(text, Loader=yaml.SafeLoader), {})
    except RecursionError:
        raise yaml.YAMLError("is nested too deeply") from None


def _count(node: yaml.Node | None, known: dict[int, int]) -> int:
    """How many values a node stands for."""
    if node is None or isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) in known:
        if known[id(node)] < 0:
            raise yaml.YAMLError("an alias stands for a value that holds it")
        return known[id(node)]
    known[id(node)] = -1
    inner = (
        node.value if isinstance(node, yaml.SequenceNode) else [part for pair in node.value for part in pair]
    )
    num = 1 + sum(_count(part, known) for part in inner)
    if num > MAX_VALUES:
        raise yaml.YAMLError(f"its aliases stand for more than {MAX_VALUES:,} values")
    known[id(node)] = num
    return num
