"""Which of the values that a library logs can be reported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MAX_TEXT = 500
"""Characters of the longest text that is passed on; as in :data:`trainers.reporting.rows.MAX_TEXT`."""


def scalars(values: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers, truth values and short texts among logged values, those of other libraries as Python's."""
    found = {}
    for name, value in values.items():
        plain = _plain(value)
        if plain is not None and name != "step":
            found[str(name)] = plain
    return found


def _plain(value: Any) -> Any:
    item = getattr(value, "item", None)
    if callable(item):
        try:
            value = item()
        except (TypeError, ValueError, RuntimeError):  # more than one number
            return None
    if isinstance(value, str):
        return value if len(value) <= MAX_TEXT else None
    return value if isinstance(value, bool | int | float) else None
