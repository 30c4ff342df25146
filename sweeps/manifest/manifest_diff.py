"""Why two manifests ask for different runs: which keys differ, and how. Pure.

An identity is a hash and cannot say what changed; this compares what the hashes were made of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweeps.grid.filters import as_text
from sweeps.manifest.manifest import Manifest
from sweeps.spec import GROUPS, group_from_dict, group_science

MAX_SHOWN = 4
"""Values listed on each side before the rest is only counted."""

MAX_TEXT = 24
"""Characters of one value that are shown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One key whose values differ between two manifests."""

    key: str
    """Dotted key, such as ``optim.weight_decay``."""
    only_old: tuple[Any, ...]
    """Values that only the runs on disk have."""
    only_new: tuple[Any, ...]
    """Values that only the runs asked for have."""

    def __str__(self) -> str:
        if not self.only_old:
            return f"{self.key}: {_list(self.only_new)} added"
        if not self.only_new:
            return f"{self.key}: {_list(self.only_old)} no longer asked for"
        return f"{self.key}: {_list(self.only_old)} on disk, {_list(self.only_new)} asked for"


def differences(old: Manifest, new: Manifest) -> list[Difference]:
    """Return the keys of the identity on whose values the manifests differ, in the order of a specification.

    Equal values may still be combined differently: an empty list for manifests whose runs differ means that.
    """
    changed = []
    old_values, new_values = _values(old), _values(new)
    for key in [*old_values, *(k for k in new_values if k not in old_values)]:
        before, after = old_values.get(key, {}), new_values.get(key, {})
        gone = tuple(v for text, v in before.items() if text not in after)
        added = tuple(v for text, v in after.items() if text not in before)
        if gone or added:
            changed.append(Difference(key=key, only_old=gone, only_new=added))
    return changed


def _values(manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Each key's distinct values, by their text."""
    values: dict[str, dict[str, Any]] = {}
    for group in GROUPS:
        for code in np.unique(manifest.group_codes[group]).tolist():
            part = group_from_dict(group, json.loads(manifest.groups[group][code]))
            for key, value in _flat(group_science(part), group):
                values.setdefault(key, {})[as_text(value)] = value
    for key, column in (("steps", manifest.steps), ("seed", manifest.seeds)):
        values[key] = {str(v): v for v in np.unique(column).tolist()}
    return values


def _flat(value: Any, key: str) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        return [pair for k, v in value.items() for pair in _flat(v, f"{key}.{k}")]
    return [(key, value)]


def _list(values: Sequence[Any]) -> str:
    shown = [_short(as_text(v)) for v in values[:MAX_SHOWN]]
    rest = len(values) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")


def _short(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"
