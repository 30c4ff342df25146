"""What only a sweep's journals say, and whether they say it."""

from __future__ import annotations

from orchestrator.store.digests import recorded_damage
from orchestrator.store.layout import Layout


def why_unknown(layout: Layout) -> str:
    """Why the journals do not say what was decided or proposed, in words; empty where they do."""
    if not layout.journal_paths():
        return "this copy has no journals"
    damaged = [path.name for path in layout.journal_paths() if recorded_damage(layout, path)]
    return f"journal {damaged[0]} is damaged: emsweep repair {layout.root}" if damaged else ""
