"""Several training sets walked over together, each with a weight: ``data.mix``. Pure.

Written as a mapping from a name to what one set has (``path``, ``weight``, its fields, limit and order), so
that ``data.mix.NAME.weight`` is an axis. Weights count in proportion to each other; a set of weight 0 is left
out. The sets' names, the order in which they are written and a common factor of their weights change no run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from sweeps.spec.errors import SpecError, nearest, shown
from sweeps.spec.training_set import DataSpec

NAME = re.compile(r"[A-Za-z]\w*")
"""Names of sets: parts of keys, and of the columns that count their prompts."""

WEIGHT = "weight"
"""Key of a set's share; 1 where it is not given."""

MAX_SETS = 256
"""Sets of a mix."""

OF_ALL = (
    "name",
    "mix",
    "prompts_per_step",
    "system",
    "system_role",
    "template",
    "format",
    "targets",
    "max_tokens",
    "overlong",
    "digest",
    "num_rows",
    "has_answers",
    "hub_id",
    "commit",
)
"""Fields of ``data`` that no set of a mix has of its own, or that are filled in."""

OF_EACH = ("path", "config", "split", "revision", "limit", "subset")
"""Fields that beside a mix would leave open which set they are of."""


@dataclass(frozen=True, kw_only=True)
class PartOfMix:
    """One set of a mix, those without weight left out."""

    name: str
    weight: int
    """Its turns in each cycle of as many as the weights of all together; the weights have no common factor.
    """
    first_row: int
    """What its first row is called in records; the rows of all sets are numbered one set after another."""
    data: DataSpec


def keys_of_set() -> tuple[str, ...]:
    """What may be said of one set of a mix."""
    return (WEIGHT, *(f.name for f in dataclasses.fields(DataSpec) if f.name not in OF_ALL))


def check_mix(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Refuse a mix that is written wrong, before any set is read.

    Args:
        config: the group ``data`` as it is written.
        defaults: its values at rest.

    Raises:
        SpecError: for a path beside a mix, a name or key that is none, or weights that are no shares.
    """
    mix = config["mix"]
    for key in OF_EACH:
        if config.get(key, defaults[key]) != defaults[key]:
            raise SpecError(
                f"data.{key}={shown(config[key])}: beside data.mix, of which set? give each its own "
                f"(data.mix.{next(iter(mix))}.{key}), or leave data.mix out"
            )
    if len(mix) > MAX_SETS:
        raise SpecError(f"data.mix: has {len(mix):,} sets; give at most {MAX_SETS}")
    for name, entry in mix.items():
        if not NAME.fullmatch(name):
            raise SpecError(
                f"data.mix.{shown(name)[1:-1]}: name a set by letters, digits and _, such as gsm8k"
            )
        if not isinstance(entry, Mapping) or not entry.get("path"):
            raise SpecError(f"data.mix.{name}={shown(entry)}: names no file; give it a path, and a weight")
        for key in entry:
            if key not in keys_of_set():
                raise SpecError(
                    f"data.mix.{name}.{key}: unknown key{nearest(str(key), keys_of_set())}; of one set "
                    f"there are {', '.join(keys_of_set())}"
                )
        _weight(name, entry)
    if not any(_weight(name, entry) for name, entry in mix.items()):
        raise SpecError("data.mix: every weight is 0; give at least one set a weight above 0")


def _weight(name: str, entry: Mapping[str, Any]) -> Fraction:
    value = entry.get(WEIGHT, 1)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or value < 0:
        raise SpecError(
            f"data.mix.{name}.{WEIGHT}={shown(value)}: must be a number of at least 0; 0 leaves the set out"
        )
    return Fraction(Decimal(repr(value)))  # as it is written: 0.1 is a tenth


def used_sets(mix: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names of the sets that have a weight."""
    return [name for name, entry in mix.items() if _weight(name, entry)]


def parts_of(data: DataSpec) -> list[PartOfMix]:
    """The sets of a mix that is resolved, in the order of their contents' digests."""
    names = sorted(used_sets(data.mix), key=lambda name: str(data.mix[name]["digest"]))
    weights = whole_weights([_weight(name, data.mix[name]) for name in names])
    parts, first_row = [], 0
    for name, weight in zip(names, weights, strict=True):
        own = {key: value for key, value in data.mix[name].items() if key != WEIGHT}
        common = {key: getattr(data, key) for key in ("prompts_per_step", "format", "targets")}
        one = DataSpec(**own, **common, name=name)
        parts.append(PartOfMix(name=name, weight=weight, first_row=first_row, data=one))
        first_row += one.num_rows
    return parts


def whole_weights(weights: Sequence[Fraction]) -> list[int]:
    """Weights in proportion, as whole numbers without a common factor."""
    scale = math.lcm(*(weight.denominator for weight in weights))
    whole = [int(weight * scale) for weight in weights]
    return [weight // math.gcd(*whole) for weight in whole]


def mix_digest(parts: Sequence[PartOfMix]) -> str:
    """SHA-256 of what a mix is: each set's rows, order and weight."""
    told = [[part.data.digest, part.data.order, part.weight] for part in parts]
    return hashlib.sha256(json.dumps(["mix", *told]).encode()).hexdigest()
