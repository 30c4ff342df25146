"""Failed runs by fingerprint, as the driver groups them."""

from __future__ import annotations

from typing import Any

from analysis.data.sweep import SweepData
from orchestrator.store.failure_groups import failure_groups
from orchestrator.store.layout import Layout
from orchestrator.store.run_index import read_index
from orchestrator.store.state_reader import indexed_runs
from orchestrator.store.status import read_status
from sweeps.manifest.manifest_file import read_manifest


def failures(sweep: SweepData) -> list[dict[str, Any]]:
    """Groups of failed runs, the largest first; see :func:`orchestrator.store.failure_groups.failure_groups`.

    A driver keeps them in its status. Where it has none to tell, and runs are without a result, they are read
    from the index that the last driver left, or from the journals.
    """
    layout = Layout(sweep.directories[0])
    status = read_status(layout) or {}
    if status.get("failures"):
        return status["failures"]
    counts = sweep.counts()
    if not any(counts.get(outcome) for outcome in ("failed", "quarantined", "pending")):
        return []
    manifest = read_manifest(layout.manifest)
    book = indexed_runs(layout, manifest) or read_index(layout, manifest.run_ids, live=True).book
    return failure_groups(manifest, book)
