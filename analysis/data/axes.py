"""Axes of a sweep and the words a user may call columns by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sweeps.grid.filters import as_text
from sweeps.spec import nearest
from sweeps.spec.errors import UserError

SEED = "seed"
"""The axis that tells repeats of a cell apart."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One Hydra key and the values that a sweep gives it."""

    key: str
    """Hydra key, such as ``optim.lr`` or, for a whole group, ``model``."""
    values: tuple[Any, ...]
    """Values in YAML order."""
    kind: str
    """``int``, ``float``, ``str`` or ``bool``."""


def merge_axes(sweeps: Iterable[Iterable[Axis]]) -> tuple[Axis, ...]:
    """Union of several sweeps' axes, in order of first mention; the seed comes last."""
    merged: dict[str, Axis] = {}
    for axes in sweeps:
        for axis in axes:
            old = merged.get(axis.key, axis)
            kinds = {old.kind, axis.kind}
            kind = axis.kind if len(kinds) == 1 else "float" if kinds == {"int", "float"} else "str"
            values = (*old.values, *axis.values)
            if kind == "str":
                values = tuple(value if value is None else as_text(value) for value in values)
            merged[axis.key] = Axis(key=axis.key, values=tuple(dict.fromkeys(values)), kind=kind)
    return tuple(sorted(merged.values(), key=lambda axis: axis.key == SEED))


def resolve(word: str, known: Iterable[str], what: str) -> str:
    """Return the name in ``known`` that ``word`` means: itself, or the only one that ends in ``.word``.

    Raises:
        UserError: when there is none, or several; names the nearest.
    """
    known = list(known)
    if word in known:
        return word
    endings = [name for name in known if name.rsplit(".", 1)[-1] == word]
    if len(endings) == 1:
        return endings[0]
    if endings:
        raise UserError(f"{what} {word!r} is ambiguous: choose one of {', '.join(endings)}")
    listed = ", ".join(known[:30]) + (", …" if len(known) > 30 else "")
    ends = {name.rsplit(".", 1)[-1]: name for name in known}
    close = nearest(word, {*known, *ends})
    raise UserError(f"unknown {what} {word!r}{close}: choose one of {listed or '(none)'}")


def label(value: Any) -> str:
    """Short spelling of an axis value: ``1e-4`` rather than ``0.0001``."""
    if isinstance(value, float):
        short = f"{value:g}"
        mantissa, _, exponent = f"{value:.6e}".partition("e")
        science = f"{float(mantissa):g}e{int(exponent)}"
        return science if value and (abs(value) < 1e-2 or abs(value) >= 1e5) else short
    return str(value)


def cell_label(values: Mapping[str, Any]) -> str:
    """``model=tiny-64 optim.lr=1e-4`` for a mapping of axis values."""
    return " ".join(f"{key}={label(value)}" for key, value in values.items())


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Headings for keys: the last part (``lr`` for ``optim.lr``) where no other key ends alike."""
    keys = list(keys)
    endings = [key.rsplit(".", 1)[-1] for key in keys]
    return {key: end if endings.count(end) == 1 else key for key, end in zip(keys, endings, strict=True)}
