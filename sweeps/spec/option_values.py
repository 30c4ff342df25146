"""Reads the options of a launch that are no part of any run, such as ``search`` and ``prune``. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sweeps.spec.errors import SpecError, choice, nearest, require

Types = Mapping[str, tuple[type, ...]]
"""Keys of an option and the types of their values."""


def option_of(
    options: Mapping[str, Any], name: str, kinds: Collection[str], example: str
) -> tuple[str, dict[str, Any]]:
    """The kind of an option and what else is written of it; kind ``none`` where nothing is.

    Args:
        kinds: those that there are, beside ``none``.
        example: one of them, for messages.

    Raises:
        SpecError: for what is no option, an unknown kind, and keys beside ``none``.
    """
    node = options.get(name)
    if node is None:
        return "none", {}
    if not isinstance(node, Mapping):
        raise SpecError(f"{name}={node!r}: must be an option, such as {name}={example}")
    kind = str(node.get("kind", "none"))
    choice(f"{name}.kind", kind, ("none", *kinds))
    given = {key: value for key, value in node.items() if key != "kind"}
    if kind == "none" and given:
        raise SpecError(f"{name}.{min(given)}: is not read by {name}=none; add {name}={example}")
    return kind, given


def typed_values(
    name: str, kind: str, given: Mapping[str, Any], types: Types, may_be_null: Collection[str]
) -> dict[str, Any]:
    """What is written of an option, as its kind reads it.

    Raises:
        SpecError: for an unknown key, and a value of another type.
    """
    for key, value in given.items():
        if key not in types:
            raise SpecError(
                f"{name}.{key}: unknown key{nearest(key, types)}; {name}={kind} has {', '.join(types)}"
            )
        if value is None:
            require(key in may_be_null, f"{name}.{key}", value, "needs a value")
        else:
            fits = isinstance(value, types[key]) and not isinstance(value, bool)
            names = " or ".join(t.__name__ for t in types[key])
            require(fits, f"{name}.{key}", value, f"must be {names}")
    return dict(given)
