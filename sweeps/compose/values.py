"""The values that a word of the command line, or an axis in a sweep file, stands for."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal
from typing import Any

from hydra.core.override_parser.types import (
    ChoiceSweep,
    Glob,
    IntervalSweep,
    Override,
    QuotedString,
    RangeSweep,
)

from sweeps.grid.axes import Interval
from sweeps.grid.grid import MAX_RUNS, too_large
from sweeps.hydra_internals import group_options
from sweeps.spec import SpecError, coerce_key


def values_of(word: Override, loader: Any) -> list[Any]:
    """Return the plain values of a word: one, or those of a list, range or glob; an interval is one value.

    Raises:
        SpecError: for a range too long to list, an empty one, or a sweep without countable values.
    """
    value = word.value()
    if isinstance(value, RangeSweep):
        _check_range(word, value)
        return _listed(value) if not value.shuffle else _refuse_shuffle(word)
    if isinstance(value, Glob):
        options = value.filter(group_options(loader, word.key_or_group))
        if not options:
            raise SpecError(f"{word.input_line!r}: matches no option of {word.key_or_group}")
        return options
    if isinstance(value, ChoiceSweep):
        return [_unquoted(v) for v in value.list] if not value.shuffle else _refuse_shuffle(word)
    if isinstance(value, IntervalSweep):
        return [_interval(word, value)]
    if word.is_sweep_override():
        raise SpecError(
            f"{word.input_line!r}: has no countable values; list them, or use range(start,stop,step)"
        )
    return [value]


def _interval(word: Override, value: IntervalSweep) -> Interval:
    if unknown := sorted(set(value.tags) - {"log"}):
        raise SpecError(f"{word.input_line!r}: unknown tag {unknown[0]!r}; an interval has tag(log, …) alone")
    low, high = value.start, value.end
    if low is None or high is None:
        raise SpecError(f"{word.input_line!r}: an interval has two ends, as interval(1e-5,1e-3)")
    return Interval(low=low, high=high, log="log" in value.tags)


def _listed(value: RangeSweep) -> list[Any]:
    """The numbers of a range, as they would be written: the third of 0.1, 0.2, … is 0.3."""
    if all(isinstance(v, int) for v in (value.start, value.stop, value.step)):
        return list(value.range())
    start, stop, step = (Decimal(repr(float(v or 0))) for v in (value.start, value.stop, value.step))
    count = max(0, math.ceil((stop - start) / step))
    return [float(start + i * step) for i in range(count)]


def _unquoted(value: Any) -> Any:
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [_unquoted(v) for v in value]
    return {_unquoted(k): _unquoted(v) for k, v in value.items()} if isinstance(value, dict) else value


def _check_range(word: Override, value: RangeSweep) -> None:
    """Refuse a range too long to list, before it is listed."""
    start, stop, step = float(value.start or 0), float(value.stop or 0), float(value.step)
    if not all(map(math.isfinite, (start, stop, step))):
        raise SpecError(f"{word.input_line!r}: has no end; give finite numbers")
    if step == 0:
        raise SpecError(f"{word.input_line!r}: the step of a range must not be 0")
    length = max(0, int((stop - start) / step) + 1)
    if length > MAX_RUNS + 1:
        raise too_large(length - 1, [f"{word.key_or_group} {length - 1:,}"])
    if not length or (length == 1 and start == stop):
        raise SpecError(
            f"axis {word.key_or_group}: {word.input_line!r} is empty; give a range with at least one value"
        )


def _refuse_shuffle(word: Override) -> list[Any]:
    raise SpecError(
        f"{word.input_line!r}: shuffle has no fixed seed; use sweep.subset.runs=N sweep.subset.seed=S"
    )


def coerced(key: str, value: Any) -> Any:
    """Return a value as its key holds it; a reference is left for the run, a single row stays single.

    Raises:
        SpecError: for a value that the key cannot hold, an interval of a key that holds no number among them.
    """
    if isinstance(value, Interval):
        low, high = (coerced(key, end) for end in (value.low, value.high))
        if any(isinstance(end, bool) or not isinstance(end, (int, float)) for end in (low, high)):
            raise SpecError(f"{key}={value}: holds no number that an interval could be of; list its values")
        return replace(value, low=low, high=high)
    if isinstance(value, str) and "${" in value:
        return value
    if key in ("example.rows", "example.ids") and not isinstance(value, (list, tuple)):
        return coerce_key(key, [value])[0]  # one row stands for a list of one
    typed = coerce_key(key, value)
    return list(typed) if isinstance(typed, tuple) else typed
