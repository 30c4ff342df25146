"""From a configuration to the identity of a run: canonical JSON, hashed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sweeps.spec.errors import SpecError, shown
from sweeps.spec.printable import half_character

RUN_ID_LENGTH = 32
"""Hex digits of SHA-256 kept: 128 bits, so two of 10⁹ runs collide with probability below 10⁻²⁰."""


def key_of(field_name: str) -> str:
    """The key of a field, whose name ends in ``_`` where Python keeps the word to itself, as ``from_``."""
    return field_name.removesuffix("_")


def group_to_dict(part: Any) -> dict[str, Any]:
    return {key_of(f.name): plain(getattr(part, f.name)) for f in dataclasses.fields(part)}


def plain(value: Any) -> Any:
    """A value as JSON reads it back: tuples as lists, mappings as dictionaries, to any depth."""
    if isinstance(value, Mapping):
        return {key: plain(v) for key, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value


LATER_GROUPS = ("init", "data", "curate")
"""Groups that came after version 1."""

_NEVER = object()

_text = json.JSONEncoder(ensure_ascii=False).encode
"""JSON of a text, and of what has no parts."""


def group_science(part: Any) -> dict[str, Any]:
    """The fields of one group that are part of the identity."""
    science = {}
    for f in dataclasses.fields(part):
        value = getattr(part, f.name)
        compute = f.metadata.get("compute") and value != f.metadata.get("science_at", _NEVER)
        if compute or ("omit_at" in f.metadata and value == f.metadata["omit_at"]):
            continue
        science[key_of(f.name)] = plain(value)
    return science


def canonical_json(value: Any, where: str = "") -> str:
    """JSON with sorted keys, no spaces and one spelling per value.

    Raises:
        SpecError: for a value with no stable form: NaN, infinity, a set, an object, a key that is not text.
    """
    if isinstance(value, str) and half_character(value) is not None:
        raise SpecError(f"{where or 'value'}={shown(value)}: holds half a character; mend the text")
    if value is None or isinstance(value, (bool, str)):
        return _text(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise SpecError(f"{where or 'value'}={shown(value)}: has no stable form; use a finite number")
        return repr(value + 0.0)  # + 0.0 turns -0.0 into 0.0
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(canonical_json(v, f"{where}[{i}]") for i, v in enumerate(value)) + "]"
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise SpecError(f"{where or 'mapping'}: key {key!r} must be text")
        items = (f"{_text(k)}:{canonical_json(value[k], f'{where}.{k}')}" for k in sorted(value))
        return "{" + ",".join(items) + "}"
    raise SpecError(f"{where or 'value'}: a {type(value).__name__} has no stable form; use plain JSON values")


def key_texts(group: str, part: Any, keys: Iterable[str] | None = None) -> dict[str, str]:
    """Canonical JSON of each of a group's values, or of some, by key."""
    values = group_to_dict(part)
    return {key: canonical_json(values[key], f"{group}.{key}") for key in keys or values}


def text_of(part: Any, texts: Mapping[str, str]) -> str:
    """Canonical JSON of a whole group, of those of its values, as manifests store it; what is said of metrics
    keeps its order, whose first is the metric that tables are about.
    """
    if metrics := plain(getattr(part, "metrics", None)):
        told = (f"{_text(k)}:{canonical_json(v)}" for k, v in metrics.items())
        texts = {**texts, "metrics": "{" + ",".join(told) + "}"}
    return _joined(texts, texts)


def canonical_of(part: Any, texts: Mapping[str, str]) -> str:
    """Canonical JSON of one group's science part, of those of its values: the fragment that
    :func:`join_run_id` hashes.
    """
    return _joined(texts, group_science(part))


def _joined(texts: Mapping[str, str], keys: Iterable[str]) -> str:
    return "{" + ",".join(f'"{key}":{texts[key]}' for key in sorted(keys)) + "}"


def group_text(group: str, part: Any) -> str:
    """Canonical JSON of a whole group (:func:`text_of`)."""
    return text_of(part, key_texts(group, part))


def group_canonical(group: str, part: Any) -> str:
    """Canonical JSON of one group's science part (:func:`canonical_of`)."""
    return canonical_json(group_science(part), group)


def join_run_id(fragments: Mapping[str, str], steps: int, seed: int) -> str:
    """Hash a run from its groups' canonical fragments (see :func:`group_canonical`), as the planner does
    10⁶ times.
    """
    text = joined_groups(fragments) + joined_scalars(steps, seed)
    return hashlib.sha256(text.encode()).hexdigest()[:RUN_ID_LENGTH]


def joined_groups(fragments: Mapping[str, str]) -> str:
    """Canonical text of a run up to its scalars; many runs share it, so its hash can be begun once.

    A group that came in a later version is left out while nothing in it is set.
    """
    hashed = sorted(g for g in fragments if g not in LATER_GROUPS or fragments[g] != "{}")
    return "{" + ",".join(f'"{g}":{fragments[g]}' for g in hashed)


def lineage_canonical(parents: Sequence[str]) -> str:
    """Canonical JSON of what a run starts from: the ids of earlier runs; ``{}`` for the base model."""
    return canonical_json({"parents": list(parents)} if parents else {})


def joined_scalars(steps: int, seed: int) -> str:
    """Canonical text of a run after :func:`joined_groups`."""
    return f',"seed":{seed},"steps":{steps}}}'
