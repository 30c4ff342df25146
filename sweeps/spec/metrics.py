"""What a metric is: which way is better, its unit, and the values that it can take. Pure.

A sweep file says it of its own trainer's metrics, outside ``run_id``::

    trainer:
      _target_: mine.Regressor
      metrics:
        rmse: {direction: min, unit: m, range: [0, 10]}
        accuracy: {direction: max, unit: share}

Every table, figure and page reads only this. Nothing is guessed from a name: a metric of which nothing is
said is a plain number without a better end.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sweeps.spec.errors import SpecError, choice, nearest

Direction = Literal["max", "min", "none"]

SHARE = "share"
"""Unit of a fraction of a whole: shown in per cent, its differences in points."""

FIELDS = ("direction", "unit", "range", "words")


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricInfo:
    """What is known of one metric."""

    direction: Direction = "none"
    """Whether larger (``max``) or smaller (``min``) is better, or neither is known to be."""
    unit: str = ""
    """As printed behind a value; ``share`` is a fraction that is shown in per cent."""
    range: tuple[float | None, float | None] = (None, None)
    """Least and largest value that it can take; ``None`` where there is no bound."""
    words: str = ""
    """What figures call it; its own name where this is empty."""
    difference: bool = False
    """Whether it is a difference of two values, shown with its sign."""

    @property
    def is_share(self) -> bool:
        return self.unit == SHARE

    @property
    def sign(self) -> int:
        """−1 where smaller is better: a value times this is larger for the better one."""
        return -1 if self.direction == "min" else 1

    def require_in_range(self, name: str, value: float) -> None:
        """Refuse a value that the metric, so called, is said not to take.

        Raises:
            SpecError: naming the value and the range.
        """
        low, high = self.range
        if (low is not None and value < low) or (high is not None and value > high):
            raise SpecError(f"{name}={value:g}: is outside of its range [{low}, {high}]")

    def title(self, name: str) -> str:
        """Words and unit for the axis of a figure."""
        return (self.words or name) + (f" ({self.axis_unit})" if self.axis_unit else "")

    @property
    def axis_unit(self) -> str:
        """The unit in words: ``%`` of a share, ``points`` of a difference of shares."""
        return ("points" if self.difference else "%") if self.is_share else self.unit


def metric_info(name: str, written: Any) -> MetricInfo:
    """Read what a sweep file or a trainer says of one metric.

    Raises:
        SpecError: for anything but a mapping of the known fields, naming the field and the fix.
    """
    key = f"trainer.metrics.{name}"
    if not isinstance(written, Mapping):
        raise SpecError(f"{key}={written!r}: must be a mapping such as {{direction: min, unit: m}}")
    for field in written:
        if field not in FIELDS:
            raise SpecError(
                f"{key}.{field}: unknown key{nearest(str(field), FIELDS)}; choose of {', '.join(FIELDS)}"
            )
    for field in ("direction", "unit", "words"):
        if not isinstance(written.get(field, ""), str):
            raise SpecError(f"{key}.{field}={written[field]!r}: must be text")
    direction = written.get("direction", "none")
    choice(f"{key}.direction", direction, get_args(Direction))
    low, high = _range(key, written.get("range", (None, None)))
    if written.get("unit") == SHARE:
        low, high = 0.0 if low is None else low, 1.0 if high is None else high
    return MetricInfo(
        direction=direction, unit=written.get("unit", ""), range=(low, high), words=written.get("words", "")
    )


def _range(key: str, written: Any) -> tuple[float | None, float | None]:
    ends = list(written) if isinstance(written, (list, tuple)) else []
    known = [end for end in ends if end is not None]
    numbers = all(isinstance(end, (int, float)) and not isinstance(end, bool) for end in known)
    if len(ends) != 2 or not numbers or (len(known) == 2 and not known[0] < known[1]):
        raise SpecError(
            f"{key}.range={written!r}: must be the least and the largest value, such as [0, 10]; null where "
            "there is no bound"
        )
    low, high = (None if end is None else float(end) for end in ends)
    return low, high


def change_of(info: MetricInfo) -> MetricInfo:
    """What the difference of two values of a metric is."""
    low, high = info.range
    width = high - low if low is not None and high is not None else None
    ends = (None, None) if width is None else (-width, width)
    return dataclasses.replace(info, range=ends, difference=True)
