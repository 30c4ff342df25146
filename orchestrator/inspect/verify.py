"""Proof that a directory holds exactly one result per run. Reads; writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.store.compaction import is_current
from orchestrator.store.layout import Layout
from orchestrator.store.run_index import CODE, read_index
from sweeps.manifest.manifest import Manifest


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What the spools prove."""

    expected: int
    """Runs of the manifest."""
    committed: int
    """Runs with a result whose checksum is right."""
    cancelled: int
    """Runs given up on request; they need no result."""
    duplicated: int
    """Runs committed at more than one place."""
    corrupt: int
    """Committed results that can no longer be read."""
    superseded: int
    """Valid results that another of the same run came before."""
    foreign: int
    """Valid results of runs that have left the grid."""
    uncommitted: int
    """Valid results that no driver has committed yet; ``resume`` keeps them."""
    bad_lines: int
    """Torn or corrupt lines, skipped."""
    tables_agree: bool
    """Whether ``runs.parquet``, where there is one, says the same."""

    @property
    def missing(self) -> int:
        """Runs that should have a result and have none."""
        return self.expected - self.committed - self.cancelled

    @property
    def ok(self) -> bool:
        """Exactly one result per run, and tables that agree."""
        return not (self.missing or self.duplicated or self.corrupt) and self.tables_agree

    def to_json(self) -> dict[str, Any]:
        """The verdict as plain values."""
        names = ("expected", "committed", "missing", "duplicated", "corrupt", "ok")
        more = ("cancelled", "superseded", "foreign", "uncommitted", "bad_lines", "tables_agree")
        return {name: getattr(self, name) for name in (*names, *more)}


def verify(layout: Layout, manifest: Manifest, *, live: bool = False) -> Verification:
    """Read every line of every spool and hold it against the manifest."""
    reading = read_index(layout, manifest.run_ids, live=live)
    book = reading.book
    return Verification(
        expected=len(manifest),
        committed=book.num_committed - len(reading.adopted),
        cancelled=book.outcome.count(CODE["cancelled"]),
        duplicated=len(reading.doubly_accepted),
        corrupt=len(reading.missing),
        superseded=reading.num_superseded,
        foreign=reading.num_foreign,
        uncommitted=len(reading.adopted),
        bad_lines=reading.health.num_corrupt + reading.health.num_torn,
        tables_agree=live or not layout.table("runs").exists() or is_current(layout, manifest.digest, book),
    )
