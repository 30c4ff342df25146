"""Proof that a directory holds exactly one result per run. Reads; writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.store import compaction
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
    tables_missing: tuple[str, ...] = ()
    """Tables that ought to be there, since the last driver ended by itself, and are not; ``resume`` writes
    them.
    """

    @property
    def missing(self) -> int:
        """Runs that should have a result and have none."""
        return self.expected - self.committed - self.cancelled

    @property
    def ok(self) -> bool:
        """Exactly one result per run, and tables that agree."""
        lacking = self.missing or self.duplicated or self.corrupt or self.tables_missing
        return not lacking and self.tables_agree

    def to_json(self) -> dict[str, Any]:
        """The verdict as plain values."""
        names = ("expected", "committed", "missing", "duplicated", "corrupt", "ok")
        more = (
            "cancelled",
            "superseded",
            "foreign",
            "uncommitted",
            "bad_lines",
            "tables_agree",
            "tables_missing",
        )
        return {name: getattr(self, name) for name in (*names, *more)}


def verify(layout: Layout, manifest: Manifest, *, live: bool = False) -> Verification:
    """Read every line of every spool and hold it against the manifest."""
    reading = read_index(layout, manifest.run_ids, live=live)
    book = reading.book
    written = reading.closed and not live and not reading.adopted
    absent = tuple(compaction.missing_tables(layout, book)) if written else ()
    tables_agree = True
    if not live and layout.table("runs").exists():
        tables_agree = bool(absent) or compaction.is_current(layout, manifest.digest, book)
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
        tables_agree=tables_agree,
        tables_missing=absent,
    )
