"""How numbers are written for people: one spelling of each kind, wherever it is shown."""

from __future__ import annotations

import math
from typing import Any


def duration(seconds: float) -> str:
    """Seconds as people say them: ``42 s``, ``3 min 20 s``, ``5 h 12 min``, ``12 d 3 h``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 2 * 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def span(seconds: float, low: float, high: float) -> str:
    """Seconds with their interval: ``42 s (30 s to 1 min 5 s)``; without one that would only repeat them."""
    middle, ends = duration(seconds), (duration(low), duration(high))
    return middle if ends == (middle, middle) else f"{middle} ({ends[0]} to {ends[1]})"


def size(count: float) -> str:
    """Bytes in the largest unit that fits: ``512 bytes``, ``1.5 GiB``."""
    for unit, width in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= width:
            return f"{count / width:.1f} {unit}"
    return f"{count:.0f} bytes"


def counted(count: float, noun: str, nouns: str = "") -> str:
    """``1 seed``, ``4 seeds``, ``1,024 runs``; ``nouns`` where the plural is not the noun with an s."""
    number = int(count)
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def label(value: Any) -> str:
    """Short spelling of an axis value: ``1e-4`` rather than ``0.0001``."""
    if isinstance(value, float) and not math.isfinite(value):
        return "–" if value != value else str(value)
    if isinstance(value, float):
        short = f"{value:g}"
        mantissa, _, exponent = f"{value:.6e}".partition("e")
        science = f"{float(mantissa):g}e{int(exponent)}"
        return science if value and (abs(value) < 1e-2 or abs(value) >= 1e5) else short
    return str(value)
