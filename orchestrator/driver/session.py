"""From a manifest and a directory to a finished driver: what ``launch``, ``resume`` and ``rerun`` share."""

from __future__ import annotations

import re
import sqlite3
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from orchestrator.driver.deciding import deciding_of
from orchestrator.driver.driver import Driver
from orchestrator.driver.nodes import nodes_asked, require_room
from orchestrator.driver.options import DriverOptions
from orchestrator.driver.provenance import provenance
from orchestrator.driver.racing import decided_by_results
from orchestrator.driver.run_summary import Summary
from orchestrator.driver.searching import Searching
from orchestrator.driver.terminal import Progress
from orchestrator.planning.cluster import Cluster, pool_factory
from orchestrator.planning.prune_question import stopped_again
from orchestrator.planning.race_question import RaceQuestion, race_question, wanted_again
from orchestrator.planning.search_question import caught_up
from orchestrator.pools.base import Pool
from orchestrator.pools.temp_folders import remove_leftovers
from orchestrator.store import compaction
from orchestrator.store.digest_writer import Replacement, begin_digests, write_recorded
from orchestrator.store.disk_space import cure_of
from orchestrator.store.frozen import adopt_frozen, damage_of_frozen
from orchestrator.store.index_reader import ReplayResult, read_index
from orchestrator.store.journal import begin_epoch
from orchestrator.store.layout import FORMAT_VERSION, Layout
from orchestrator.store.lock import DriverLock
from orchestrator.store.memory import give_back, use_system_allocator
from orchestrator.store.opening import read_config
from orchestrator.store.outcomes import Outcome
from orchestrator.store.parts import drop_parts
from orchestrator.store.proposals import read_proposals
from orchestrator.store.records import DecisionRecord
from orchestrator.store.run_index import PENDING
from orchestrator.store.spool import LineReader
from orchestrator.store.state_rebuild import bring_up_to_date
from orchestrator.store.status import read_status, write_status
from orchestrator.trust.code_files import require_same_code
from orchestrator.trust.gate import Permission
from sweeps.manifest.manifest import SPACE, Manifest
from sweeps.manifest.manifest_file import read_manifest, write_manifest
from sweeps.spec.errors import DamagedError, LostLockError, StoreError
from sweeps.spec.printable import printable
from sweeps.spec.search_rules import same_search, sampler_of


@dataclass(frozen=True, kw_only=True)
class Reconciled:
    """What a launch found in its directory."""

    new: int
    """Runs of the manifest that the directory did not know."""
    left: int
    """Runs the directory knew that the manifest no longer holds; their results stay in the spools."""


class Session:
    """A sweep directory held by this process."""

    def __init__(self, layout: Layout, permission: Permission | None = None) -> None:
        """Take the directory.

        Args:
            layout: the directory.
            permission: of the gate, for the manifest that is to run; without one nothing can be.

        Raises:
            UserError: when it cannot be written to or another driver holds it.
        """
        layout.create()
        use_system_allocator()
        self.layout, self._permission = layout, permission
        self._lock = DriverLock(layout.lock)
        try:
            layout.remove_stale()
            begin_digests(layout)
            adopt_frozen(layout)
            remove_leftovers()
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> Session:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        hit = isinstance(error, (OSError, sqlite3.OperationalError)) and not isinstance(
            error, BrokenPipeError
        )
        root = self.layout.root
        try:
            if (hit or isinstance(error, LostLockError)) and self._is_gone():
                raise StoreError(
                    f"directory {str(root)!r}: is gone: while this driver ran it was deleted, its results "
                    "with it, or moved; if moved, finish with: emsweep resume NEW_PLACE"
                ) from error
            if hit:  # another driver that was let in removes what it takes for litter
                self._lock.check()
        finally:
            self._lock.release()
        if hit and error is not None:
            raise StoreError(
                f"directory {str(root)!r}: {error}; what is committed is safe: {cure_of(error, root)}"
            ) from error

    def _is_gone(self) -> bool:
        """Whether nothing is left of the directory but what a worker that started since has made."""
        layout = self.layout
        return not any(path.exists() for path in (layout.lock, layout.config, layout.manifest))

    def freeze(
        self,
        manifest: Manifest,
        *,
        pool: str,
        address: str | None = None,
        about: str = "",
        metrics: Mapping[str, Any] | None = None,
    ) -> Reconciled:
        """Write down what was asked, replacing an earlier manifest; arguments as of :func:`provenance`."""
        layout = self.layout
        known: Collection[str] = ()
        same_runs = False
        if not damage_of_frozen(layout, layout.manifest):
            earlier = read_manifest(layout.manifest)
            same_runs = earlier.digest == manifest.digest
            same = same_runs and same_search(earlier.options, manifest.options)
            if same and not damage_of_frozen(layout, layout.config):
                return Reconciled(new=0, left=0)
            known = set(earlier.run_ids)
        if not same_runs:
            drop_parts(layout)  # they say whose a row is by its place in the earlier manifest
        sweep_id = self._permission.sweep_id if self._permission else ""
        document = provenance(
            manifest, pool=pool, address=address, about=about, sweep_id=sweep_id, metrics=metrics
        )
        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
        with Replacement(layout) as change:
            change.writing(layout.config).write_text(text)
            write_manifest(manifest, change.writing(layout.manifest))
        give_back()
        new = sum(run_id not in known for run_id in manifest.run_ids)
        return Reconciled(new=new, left=len(known) - (len(manifest) - new))

    def caught_up(self, manifest: Manifest) -> Manifest:
        """The manifest with all runs that a search has proposed here; nothing changes for other sweeps.

        Raises:
            SpecError: where a proposal's runs cannot be made any more.
        """
        whole = caught_up(manifest, read_proposals(self.layout) if SPACE in manifest.options else ())
        if whole is not manifest and self._permission is not None:
            self._permission.require(manifest)
            self._keep_grown(whole)
        return whole

    def _keep_grown(self, manifest: Manifest) -> None:
        """Write down a manifest with further runs of the space that this process has leave to search."""
        assert self._permission is not None
        self._permission = self._permission.extended(manifest)
        with Replacement(self.layout) as change:
            write_manifest(manifest, change.writing(self.layout.manifest))

    def read(self, manifest: Manifest) -> ReplayResult:
        """Read what the directory holds.

        Raises:
            DamagedError: when a journal does not hold what was written to it; a cancel may be what is gone.
        """
        reading = read_index(self.layout, manifest.run_ids)
        for name, why in reading.journal_damage:
            raise DamagedError(
                f"{self.layout.spools / name}: {why}; nothing is run before it is mended with: "
                f"emsweep repair {self.layout.root}"
            )
        return reading

    def run(
        self,
        manifest: Manifest,
        cluster: Cluster,
        reading: ReplayResult,
        *,
        quiet: bool = False,
        only: Collection[int] | None = None,
        reopen: Collection[int] = (),
        until: float | None = None,
        pool: Callable[[], Pool] | None = None,
    ) -> Summary:
        """Run what is left.

        Args:
            manifest: the runs.
            cluster: where to run them.
            reading: what the directory holds.
            quiet: say nothing on standard error.
            only: run these and no others.
            reopen: runs that get another chance with fresh budgets, whatever became of them.
            until: Unix time by which to stop.
            pool: makes the pool, or gives one that was there; the cluster says how otherwise.

        Raises:
            UserError: when the runs do not fit the cluster, or it does not answer.
        """
        if self._permission is None:
            raise ValueError("nothing runs without a permission of the gate")
        self._permission.require(manifest)
        book = reading.book
        race = race_question(manifest, read_config(self.layout).get("metrics"))
        reopen = {*reopen, *wanted_again(race, manifest, book), *stopped_again(manifest, book)}
        for index in reopen:
            book.reopen(index)
        for text in reading.findings() if not quiet else ():
            print(printable(text), file=sys.stderr)
        progress = Progress(total=len(manifest), quiet=quiet)
        deciding = deciding_of(self.layout, manifest, book, race, progress.say, only=only)
        if deciding.pruning is not None and cluster.pool == "inline":
            progress.say(
                "--pool inline hears of a run once it is over: prune stops nothing; take --pool local"
            )
        search = deciding.search
        if not (search and search.is_open) and not any(
            code == PENDING and (only is None or i in only) for i, code in enumerate(book.outcome)
        ):
            return self._nothing_to_do(manifest, reading, race, search)
        require_same_code(manifest, self.layout.root)
        self._raise_format()
        make = pool or pool_factory(manifest, cluster)
        workers = make()
        try:
            if cluster.address is not None:
                require_room(manifest, cluster, workers)
            driver = Driver(
                layout=self.layout,
                manifest=manifest,
                reading=reading,
                pool=workers,
                lock=self._lock,
                settings=cluster.settings,
                options=DriverOptions(
                    sharing=bool(manifest.options.get("sharing")),
                    node_spools=cluster.node_spools,
                    grace_s=cluster.grace_s,
                    grows_to=cluster.grows_to,
                    until=until,
                    nodes_asked=0 if cluster.address is None else nodes_asked(),
                ),
                progress=progress,
                reopened=reopen,
                only=only,
                deciding=deciding,
                keep=self._keep_grown,
            )
            return driver.run()
        finally:
            workers.close()

    def settle(
        self, manifest: Manifest, reading: ReplayResult, indices: Collection[int], outcome: Outcome
    ) -> None:
        """Record the end of runs without running anything."""
        self._raise_format()
        journal = begin_epoch(self.layout, manifest.digest, reading)
        journal.settle(sorted(indices), outcome, time.time())
        journal.close(outcome, time.time())
        book = self.read(manifest).book
        bring_up_to_date(self.layout, manifest, book)
        compaction.rebuild(self.layout, manifest, book)

    def _raise_format(self) -> None:
        """Note in a ``sweep.yaml`` of an older format that what is written from here on is of this one."""
        text = self.layout.config.read_text() if self.layout.config.exists() else ""
        raised = re.sub(r"(?m)^format: \d+$", f"format: {FORMAT_VERSION}", text, count=1)
        if raised != text:
            write_recorded(self.layout, self.layout.config, raised.encode())

    def _nothing_to_do(
        self,
        manifest: Manifest,
        reading: ReplayResult,
        race: RaceQuestion | None,
        search: Searching | None,
    ) -> Summary:
        """Leave everything as it is, unless results or tables lag behind."""
        decisions: list[DecisionRecord] = []
        counts: dict[str, int] = {}
        if race is not None:
            lines = LineReader(self.layout.spools)
            decisions, counts = decided_by_results(race, manifest, reading.book, lines)
            lines.close()
        if reading.adopted or reading.unreadable or decisions:
            self._raise_format()
            journal = begin_epoch(self.layout, manifest.digest, reading)
            for decision in decisions:
                journal.decided(decision)
            journal.close("nothing was left to run", time.time())
        bring_up_to_date(self.layout, manifest, reading.book)
        if reading.adopted or not compaction.is_current(self.layout, manifest.digest, reading.book):
            compaction.rebuild(self.layout, manifest, reading.book)
        told = read_status(self.layout)
        facts = None if search is None else search.facts()
        asked: dict[str, Any] = {"race": counts or None}
        if (
            search is not None or sampler_of(manifest.options) is None
        ):  # else some runs of a search were named
            asked["search"] = facts
        if told is not None and any((told.get(key) or None) != found for key, found in asked.items()):
            write_status(self.layout, {**told, **asked})
        return Summary.of(reading.book.counts(), search=facts, **counts)


def stored_pool(layout: Layout) -> tuple[str | None, str | None]:
    """Pool and address that the sweep was launched with."""
    document = read_config(layout)
    return document.get("pool"), document.get("address")
