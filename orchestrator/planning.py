"""What a sweep would run: its manifest set against what its directory already holds. Writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeps.compose import compose_sweep
from sweeps.filters import as_text
from sweeps.manifest import Manifest, build_manifest

OUTPUTS = Path("outputs")
"""Folder of sweep directories that were not given a place of their own."""

MAX_VALUES_SHOWN = 8
"""Values of an axis that the tree lists before it only counts them."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What would run."""

    directory: Path
    """Where the sweep would lie."""
    manifest: Manifest
    """Its runs."""
    done: int = 0
    """Runs whose result is already there."""
    notes: Sequence[str] = field(default_factory=tuple)
    """Sentences for people: what is missing, what differs."""

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain values."""
        return {
            "sweep": self.manifest.sweep,
            "dir": str(self.directory),
            "runs": len(self.manifest),
            "cells": self.manifest.num_cells,
            "new": len(self.manifest) - self.done,
            "done": self.done,
            "duplicates": self.manifest.num_duplicates,
            "axes": {a.key: list(a.values) for a in self.manifest.axes},
            "digest": self.manifest.digest,
            "needs": [
                {"what": n.what, "missing": list(n.missing), "fix": n.fix} for n in self.manifest.needs
            ],
            "notes": list(self.notes),
        }

    def to_text(self) -> str:
        """Return the plan for people."""
        m = self.manifest
        lines = [f"{m.sweep}: {len(m):,} runs in {m.num_cells:,} cells → {self.directory}"]
        lines += [f"  {line}" for line in axes_tree(m)]
        lines.append(
            f"new {len(m) - self.done:,} · done {self.done:,} · duplicates removed {m.num_duplicates:,}"
        )
        if len(m):
            lines.append(f"first {m.name(0)} ({m.run_ids[0]}) · last {m.name(len(m) - 1)}")
        lines += [f"needs {n.what}: missing {', '.join(n.missing)}; {n.fix}" for n in m.needs]
        return "\n".join([*lines, *self.notes])


def axes_tree(manifest: Manifest) -> list[str]:
    """Return one line per axis: branch, key, number of values and the values."""
    lines = []
    width = max((len(a.key) for a in manifest.axes), default=0)
    for i, axis in enumerate(manifest.axes):
        shown = [as_text(v) for v in axis.values[:MAX_VALUES_SHOWN]]
        rest = len(axis.values) - len(shown)
        if rest:
            shown = [*shown[:3], "…", as_text(axis.values[-1])]
        branch = "└─" if i == len(manifest.axes) - 1 else "├─"
        lines.append(f"{branch} {axis.key:<{width}} {len(axis.values):>5}  {' '.join(shown)}")
    return lines


def make_plan(overrides: Sequence[str], directory: Path | None = None) -> Plan:
    """Compose and expand a sweep, and compare it with its directory.

    Raises:
        SpecError: for a mistake in the overrides or the sweep file.
    """
    composed = compose_sweep(overrides)
    manifest = build_manifest(composed)
    return Plan(directory=directory or OUTPUTS / composed.name, manifest=manifest)
