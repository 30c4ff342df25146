"""Short names for runs, such as ``tiny-64·carry-3·lr1e-4·τ0.5·s7``. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sweeps.grid.filters import as_text

SEPARATOR = "·"
"""Between the parts of a name."""

ABBREVIATIONS = {
    "optim.lr": "lr",
    "objective.temperature": "τ",
    "sampling.temperature": "T",
    "sampling.num_rollouts": "B",
    "seed": "s",
    "steps": "n",
    "example.rows": "row",
    "example.ids": "",
    "engine.zero_stage": "zero",
    "optim.weight_decay": "wd",
    "optim.grad_clip": "clip",
    "schedule.warmup_steps": "warmup",
}
"""Keys with a usual short form. Others use their last word; options of a group stand alone."""


def prefixes(keys: Sequence[str]) -> list[str]:
    """Return what precedes each axis's value in a name; two axes never share a prefix."""
    abbreviations = [ABBREVIATIONS.get(k, k.rsplit(".", 1)[-1] if "." in k else "") for k in keys]
    return [k if p and abbreviations.count(p) > 1 else p for k, p in zip(keys, abbreviations, strict=True)]


def part(prefix: str, value: Any) -> str:
    if isinstance(value, float):
        return prefix + short_number(value)
    text = as_text(value)
    return f"{prefix}={text}" if len(prefix) > 4 and not text[:1].isdigit() else prefix + text


def joined(parts: Iterable[str]) -> str:
    """Return a name from its parts; empty ones are left out."""
    return SEPARATOR.join(p for p in parts if p) or "run"


def short_number(value: float) -> str:
    """Return the shortest spelling of a float that reads back the same: ``1e-4``, ``0.5``, ``16``."""
    plain = repr(value)
    if "e" not in plain and plain.endswith(".0"):
        plain = plain[:-2]
    mantissa, _, exponent = f"{value:e}".partition("e")
    scientific = f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    if float(scientific) != value:
        scientific = plain.replace("e-0", "e-").replace("e+", "e")
    return scientific if len(scientific) < len(plain) else plain
