"""How a benchmark prints what it measured."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping


def print_figures(figures: Mapping[str, object], *, as_json: bool) -> None:
    """One JSON object, or a line a figure."""
    if as_json:
        json.dump(figures, sys.stdout, ensure_ascii=False)
    else:
        for key, value in figures.items():
            print(key, value, sep="\t")
