"""The axes of a sweep as its readers see them, and the words a user may call them by. Pure."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from sweeps.spec.errors import SpecError, nearest, require

Kind = Literal["int", "float", "bool", "str"]
"""Type of an axis's values; lists and mappings are shown as JSON text, so they are ``str``."""

MAX_LISTED = 30
"""Names or values that a message lists: about three lines of a terminal."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One Hydra key and the values that a sweep gives it."""

    key: str
    """Hydra key, such as ``optim.lr`` or, for a whole group, ``model``; the name of its column in tables."""
    values: tuple[Any, ...]
    kind: Kind


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """All numbers from ``low`` to ``high``, both included: whole ones where both ends are."""

    low: float
    high: float
    log: bool = False
    """Whether ratios count rather than differences: from 1e-5 to 1e-4 is as far as from 1e-4 to 1e-3."""

    def __post_init__(self) -> None:
        for end in (self.low, self.high):
            is_number = isinstance(end, (int, float)) and not isinstance(end, bool)
            is_whole = isinstance(end, int)
            require(
                is_number and (-(2**63) <= end < 2**63 if is_whole else math.isfinite(end)),
                str(self),
                end,
                "must have finite numbers for ends, whole ones of at most 64 bits",
            )
        if not self.low < self.high:
            raise SpecError(f"{self}: the first number must be below the second")
        if self.log and self.low <= 0:
            raise SpecError(
                f"{self}: ratios need numbers above 0; raise {self.low:g}, or leave out tag(log, …)"
            )
        width = self.high / self.low - 1 if self.log else self.high - self.low
        if not sys.float_info.min <= width < math.inf:
            raise SpecError(f"{self}: its ends are too far apart or too close for a float; move one of them")

    @property
    def is_whole(self) -> bool:
        """Whether it is one of whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def __str__(self) -> str:
        inner = f"interval({self.low!r},{self.high!r})"
        inner = f"int({inner})" if self.is_whole else inner
        return f"tag(log,{inner})" if self.log else inner


def resolve(word: str, known: Iterable[str], what: str = "axis") -> str:
    """Return the name in ``known`` that ``word`` means: itself, or the only one that ends in ``.word``.

    Raises:
        SpecError: when there is none, or several; names the nearest.
    """
    known = list(known)
    if word in known:
        return word
    endings = [name for name in known if last_part(name) == word]
    if len(endings) == 1:
        return endings[0]
    if endings:
        raise SpecError(f"{what} {word!r} is ambiguous: choose one of {', '.join(endings)}")
    close = nearest(word, {*known, *map(last_part, known)})
    raise SpecError(f"unknown {what} {word!r}{close}: choose one of {listed(known) or '(none)'}")


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Headings for keys: the last part (``lr`` for ``optim.lr``) where no other key ends alike."""
    keys = list(keys)
    endings = [last_part(key) for key in keys]
    return {key: end if endings.count(end) == 1 else key for key, end in zip(keys, endings, strict=True)}


def last_part(key: str) -> str:
    """``lr`` for ``optim.lr``."""
    return key.rsplit(".", 1)[-1]


def listed(names: Iterable[str]) -> str:
    """Names for a message, cut where there are too many to read."""
    names = list(names)
    return ", ".join(names[:MAX_LISTED]) + (", …" if len(names) > MAX_LISTED else "")
