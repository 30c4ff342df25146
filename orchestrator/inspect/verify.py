"""Proof that a directory holds exactly one result per run, and that every file of it is whole. Reads; writes
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.inspect.damage import Damage, damaged_files, differing_tables
from orchestrator.store import compaction
from orchestrator.store.digests import name_of
from orchestrator.store.index_reader import read_index
from orchestrator.store.layout import Layout
from orchestrator.store.reports import reported_rows
from orchestrator.store.run_index import CODE
from orchestrator.store.spool import SpoolHealth
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
    skipped: int
    """Runs that a race did without; they need no result."""
    stopped: int
    """Runs that early stopping has ended; they have none."""
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
    pending: int = 0
    """Runs without a result that ``resume`` would run."""
    failed: int = 0
    """Runs that failed, quarantined ones included; they have no result until ``rerun`` runs them again."""
    tables_missing: tuple[str, ...] = ()
    """Tables that ought to be there, since the last driver ended by itself, and are not; ``resume`` writes
    them.
    """

    fenced: int = 0
    """Lines that a replaced driver or its workers appended too late; they count for nothing."""
    unknown: int = 0
    """Journal lines that ``repair`` could not mend; what they decided is unknown."""
    damaged: tuple[Damage, ...] = ()
    """Files that do not hold what was written to them."""
    findings: tuple[str, ...] = ()
    """What reading brought to light, for people."""

    @property
    def missing(self) -> int:
        """Runs that should have a result and have none."""
        return self.expected - self.committed - self.cancelled - self.skipped - self.stopped

    @property
    def is_whole(self) -> bool:
        """Nothing is damaged or doubled, and the tables agree; runs may lack a result."""
        wrong = self.duplicated or self.corrupt or self.tables_missing or self.damaged
        return not wrong and self.tables_agree

    @property
    def ok(self) -> bool:
        """Exactly one result per run, and tables that agree."""
        return self.is_whole and not self.missing

    def to_json(self) -> dict[str, Any]:
        """The verdict as plain values."""
        names = ("expected", "committed", "missing", "duplicated", "corrupt", "ok")
        more = (
            "cancelled",
            "skipped",
            "stopped",
            "failed",
            "superseded",
            "foreign",
            "uncommitted",
            "bad_lines",
            "tables_agree",
            "tables_missing",
            "fenced",
            "unknown",
        )
        found = {name: getattr(self, name) for name in (*names, *more)}
        return found | {"damaged": [d._asdict() for d in self.damaged], "findings": list(self.findings)}


def verify(
    layout: Layout,
    manifest: Manifest,
    *,
    live: bool = False,
    deep: bool = False,
    frozen: Sequence[tuple[Path, str]] = (),
) -> Verification:
    """Read every line of every spool and hold it against the manifest; hold every other file against its
    digest.

    Args:
        layout: the directory.
        manifest: its runs.
        live: a driver is at work; what is incomplete is not yet missing.
        deep: also compute every table from the spools again, and compare each value.
        frozen: what is known already to be wrong with the frozen files.
    """
    reading = read_index(layout, manifest.run_ids, live=live)
    book = reading.book
    written = reading.closed and not live and not reading.adopted
    absent = tuple(compaction.missing_tables(layout, book)) if written else ()
    tables_agree = True
    if not live and layout.table("runs").exists():
        tables_agree = bool(absent) or compaction.is_current(layout, manifest.digest, book)
    damaged = [Damage(name_of(layout, path), why) for path, why in frozen]
    damaged += [Damage(f"spool/{name}", why) for name, why in reading.journal_damage]
    damaged += damaged_files(layout, live=live, known={d.file for d in damaged})
    if deep and not live:
        damaged += differing_tables(layout, manifest, book, known={d.file for d in damaged})
    return Verification(
        expected=len(manifest),
        committed=book.num_committed - len(reading.adopted),
        cancelled=book.outcome.count(CODE["cancelled"]),
        skipped=book.outcome.count(CODE["skipped"]),
        stopped=book.outcome.count(CODE["stopped"]),
        duplicated=len(reading.doubly_accepted),
        corrupt=len(reading.missing),
        superseded=reading.num_superseded,
        foreign=reading.num_foreign,
        uncommitted=len(reading.adopted),
        bad_lines=reading.health.num_corrupt + reading.health.num_torn,
        tables_agree=tables_agree,
        pending=book.outcome.count(CODE["pending"]),
        failed=book.outcome.count(CODE["failed"]) + book.outcome.count(CODE["quarantined"]),
        tables_missing=absent,
        fenced=reading.health.num_fenced,
        unknown=reading.num_unknown,
        damaged=tuple(damaged),
        findings=(*reading.findings(), *_damaged_reports(layout)),
    )


def _damaged_reports(layout: Layout) -> list[str]:
    """What is wrong with the rows that trainers reported: no result depends on them."""
    health = SpoolHealth()
    for _ in reported_rows(layout, health=health):
        continue
    if not health.num_corrupt:
        return []
    name, offset = health.corrupt_at[0]
    return [
        f"{health.num_corrupt} reported rows are damaged and passed over, the first in {name} at {offset}"
    ]
