"""Failed runs by fingerprint, as the driver groups them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, cast

from analysis.data.sweep import SweepData
from orchestrator.store.failure_groups import failure_groups
from orchestrator.store.index_reader import read_index
from orchestrator.store.layout import Layout
from orchestrator.store.outcomes import Failure, FailureClass
from orchestrator.store.run_index import CODE, FailureNote, RunIndex
from orchestrator.store.state_reader import indexed_runs
from orchestrator.store.status import read_status
from sweeps.manifest.manifest_file import read_manifest

FAILED: Final = ("failed", "quarantined")

NOT_KNOWN = cast(FailureClass, "class not known")
"""Failure class of a run of which only the table tells."""


@dataclass(frozen=True, kw_only=True)
class Failures:
    """What is known of failed runs."""

    groups: list[dict[str, Any]]
    """The largest first; see :func:`orchestrator.store.failure_groups.failure_groups`."""
    num_unknown: int = 0
    """Runs without a result of which nothing is known: a copy without journals does not say."""


def failures(sweep: SweepData) -> Failures:
    """Failed runs in groups.

    A driver keeps them in its status. Where it has none to tell, and runs are without a result, they are read
    from the index that the last driver left, else from the journals, else from the table of runs.
    """
    layout = Layout(sweep.directories[0])
    status = read_status(layout) or {}
    if status.get("failures"):
        return Failures(groups=status["failures"])
    counts = sweep.counts()
    if not any(counts.get(outcome) for outcome in (*FAILED, "pending")):
        return Failures(groups=[])
    manifest = read_manifest(layout.manifest)
    book = indexed_runs(layout, manifest) or read_index(layout, manifest.run_ids, live=True).book
    if layout.journal_paths():
        return Failures(groups=failure_groups(manifest, book))
    known = _told_by_table(sweep, RunIndex(manifest.run_ids))
    return Failures(groups=failure_groups(manifest, known), num_unknown=counts.get("pending", 0))


def _told_by_table(sweep: SweepData, book: RunIndex) -> RunIndex:
    """Failed runs as the table of runs has them, which says neither their class nor all of their tries."""
    columns = set(sweep.arrow("SELECT * FROM runs LIMIT 0").column_names)
    if not {"error", "fingerprint", "attempt", "worker", "finished_at"} <= columns:
        return book
    rows = sweep.arrow(
        "SELECT index, outcome, attempt, worker, finished_at, error, fingerprint FROM runs "
        "WHERE outcome IN ('failed', 'quarantined') AND fingerprint IS NOT NULL"
    ).to_pylist()
    for row in rows:
        failure = Failure(NOT_KNOWN, row["fingerprint"], row["error"] or "")
        book.outcome[row["index"]] = CODE[row["outcome"]]
        book.notes[row["index"]] = FailureNote(
            failure, row["attempt"] or 0, row["worker"] or "", row["finished_at"]
        )
    return book
