"""What a search has come to, in words. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sweeps.grid.filters import as_text
from sweeps.spec.text import counted


def search_text(facts: Mapping[str, Any]) -> str:
    """``search: 17 of 24 trials by tpe; best score 0.98 at optim.lr=0.001 (1 seed; 0.97 on 3 others)``."""
    asked = max(facts["trials"], facts["trials_asked"])  # fewer may be asked for than there are
    tried = f"search: {facts['trials']:,} of {counted(asked, 'trial')} by {facts['kind']}"
    best = facts["best"]
    if best is None:
        return f"{tried}; none has a value yet"
    point = " ".join(f"{key}={as_text(value)}" for key, value in best["point"].items())
    others = ""
    if best["held_out_seeds"]:
        others = f"; {best['held_out']:.4g} on {counted(best['held_out_seeds'], 'other')}"
    where = f" at {point}" if point else ""
    seeds = counted(best["seeds"], "seed")
    return f"{tried}; best {facts['metric']} {best['value']:.4g}{where} ({seeds}{others})"
