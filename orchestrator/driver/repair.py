"""``emsweep repair``: makes a damaged sweep directory whole from what is left of it, and says what it did.

Truth is what the spools and journals hold. Lines are mended or taken out first, then the frozen files come
back, then one epoch settles what the journals leave open, then everything derived is written anew.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from orchestrator.driver.provenance import provenance
from orchestrator.inspect.verify import verify
from orchestrator.store import compaction, digest_writer, digests
from orchestrator.store.fencing import spool_paths, strays
from orchestrator.store.frozen import adopt_frozen, damage_of_frozen, frozen_damage, frozen_file
from orchestrator.store.index_reader import ReplayResult, read_index
from orchestrator.store.journal import begin_epoch
from orchestrator.store.layout import FORMAT_VERSION, TABLES, Layout
from orchestrator.store.lock import DriverLock
from orchestrator.store.mending import replaced, stretches
from orchestrator.store.opening import checked_manifest
from orchestrator.store.sqlite_path import state_path
from orchestrator.store.state_rebuild import bring_up_to_date
from orchestrator.store.status import status_is_damaged
from sweeps.manifest.atomic import write_atomically
from sweeps.manifest.manifest import SPACE, Manifest
from sweeps.spec.errors import DamagedError, UserError

_RUN_ID = re.compile(rb"[0-9a-f]{32}")


@dataclass(kw_only=True)
class Repair:
    """What a repair did."""

    rebuilt: list[str] = field(default_factory=list)
    """Files written anew."""
    mended: list[str] = field(default_factory=list)
    """Lines in which one flipped bit was turned back: file and offset."""
    settled: list[str] = field(default_factory=list)
    """Runs that had more than one committed result; the first one counts."""
    quarantined: list[str] = field(default_factory=list)
    """What was moved to ``damaged/``: file, and offset of a line."""
    removed: list[str] = field(default_factory=list)
    """Litter of killed processes."""
    lost: list[str] = field(default_factory=list)
    """What cannot be had any more."""
    ok: bool = False
    """Whether ``verify`` is content now."""

    def to_json(self) -> dict[str, Any]:
        """The report as plain values."""
        names = ("rebuilt", "settled", "quarantined", "lost", "ok", "mended", "removed")
        return {name: getattr(self, name) for name in names}


def repair(layout: Layout) -> Repair:
    """Make a directory whole.

    Raises:
        UserError: when it is no sweep directory, cannot be written, or a driver is at work in it.
        DamagedError: when neither a manifest nor its content in the journals is left.
    """
    frozen_damage(layout)  # whether it is a sweep at all
    done = Repair()
    _make_room(layout, done)
    layout.create()
    lock = DriverLock(layout.lock)
    try:
        _repair(layout, done)
    finally:
        lock.release()
    return done


def _repair(layout: Layout, done: Repair) -> None:
    done.removed += layout.remove_stale()
    for path in strays(layout):
        _set_aside(layout, path, done)
    for path in (*layout.journal_paths(), *spool_paths(layout)):
        _mend(layout, path, done)
    _forget_digests(layout, done)
    manifest = _restore_frozen(layout, done)
    reading = read_index(layout, manifest.run_ids)
    done.settled = [manifest.run_ids[i] for i in dict.fromkeys(reading.doubly_accepted)]
    lost = [i for i in reading.missing if not reading.book.committed(i)]
    if lost:
        done.lost.append(
            f"the results of {len(lost)} runs, such as {manifest.run_ids[lost[0]]}; emsweep resume "
            f"{layout.root} computes them again"
        )
    _settle(layout, manifest, reading)
    book = read_index(layout, manifest.run_ids).book
    before = _hashes(layout)
    state_path(layout).unlink(missing_ok=True)
    bring_up_to_date(layout, manifest, book)
    compaction.rebuild(layout, manifest, book)
    if status_is_damaged(layout):
        layout.status.unlink()
        done.removed.append(layout.status.name)
    done.rebuilt += [name for name, sha256 in _hashes(layout).items() if before.get(name) != sha256]
    done.ok = verify(layout, manifest).ok


def _make_room(layout: Layout, done: Repair) -> None:
    """Set aside what stands in the place of one of our files or folders and is none."""
    files = (
        layout.config, layout.manifest, layout.digests, layout.state, layout.status, layout.lock,
        *map(layout.table, TABLES),
    )  # fmt: skip
    folders = (layout.spools, layout.control, layout.parts, layout.root / "logs", layout.worker_logs)
    wrong = [p for p in files if (p.exists() or p.is_symlink()) and not p.is_file()]
    wrong += [p for p in folders if (p.exists() or p.is_symlink()) and not p.is_dir()]
    if layout.spools.is_dir():
        wrong += [p for p in layout.spools.glob("*.jsonl") if not p.is_file()]
    if layout.parts.is_dir():
        wrong += [p for p in layout.parts.glob("*.parquet") if not p.is_file()]
    for path in wrong:
        _set_aside(layout, path, done)


def _set_aside(layout: Layout, path: Path, done: Repair) -> None:
    name = path.relative_to(layout.root).as_posix()
    target = _free(layout.damaged / name)
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
    done.quarantined.append(name)


def _free(path: Path) -> Path:
    """The path, or one beside it that nothing has."""
    candidates = (path, *(path.with_name(f"{path.name}.{number}") for number in range(1, 10_000)))
    return next(c for c in candidates if not (c.exists() or c.is_symlink()))


def _mend(layout: Layout, path: Path, done: Repair) -> None:
    """Mend the lines of a spool or journal, and move to ``damaged/`` those that cannot be."""
    data = path.read_bytes()
    changes = stretches(data)
    if not changes:
        return
    name = path.relative_to(layout.root).as_posix()
    for change in (c for c in changes if not c.mended):
        target = _free(layout.damaged / f"{path.name}.{change.offset}")
        target.parent.mkdir(exist_ok=True)
        write_atomically(target, change.found, durable=True)
        place = {"file": name, "offset": change.offset, "bytes": len(change.found), "kept_as": target.name}
        with (layout.damaged / "lines.jsonl").open("a") as index:
            index.write(json.dumps(place) + "\n")
        done.quarantined.append(f"{name} at byte {change.offset:,}")
        if path in layout.journal_paths():
            runs = len(set(_RUN_ID.findall(change.found)))
            about = f"; it names {runs} runs, which may have been cancelled" if runs else ""
            done.lost.append(f"what {name} said at byte {change.offset:,} is unknown{about}")
    done.mended += [f"{name} at byte {c.offset:,}" for c in changes if c.mended]
    write_atomically(path, replaced(data, changes), durable=True)


def _forget_digests(layout: Layout, done: Repair) -> None:
    """Keep what is recorded of frozen files and journals; everything else is written anew."""
    try:
        known = digests.read_digests(layout)
    except DamagedError:
        done.rebuilt.append(layout.digests.name)
        known = None
    if known is None:
        digest_writer.start_afresh(layout)
        return
    for path in layout.journal_paths():
        if why := digests.recorded_damage(layout, path):
            done.lost.append(f"spool/{path.name} {why}: what it decided there is unknown")
            digest_writer.forget(layout, [digests.name_of(layout, path)])
    kept = {layout.config.name, layout.manifest.name}
    digest_writer.forget(layout, [name for name in known if name not in kept and not name.endswith(".jsonl")])


def _restore_frozen(layout: Layout, done: Repair) -> Manifest:
    """Bring back the frozen files and return the manifest.

    Raises:
        DamagedError: when no manifest can be had.
    """
    for path in (layout.manifest, layout.config):
        if not damage_of_frozen(layout, path):
            continue
        content = frozen_file(layout, path.name)
        if content is not None:
            digest_writer.write_recorded(layout, path, content)
            done.rebuilt.append(path.name)
    try:
        manifest = checked_manifest(layout, layout.manifest)
    except UserError as error:
        manifest = _manifest_of_journals(layout, done, error)
    digest_writer.record(layout, layout.manifest)
    if damage_of_frozen(layout, layout.config):
        _restore_config(layout, manifest, done)
    adopt_frozen(layout)
    return manifest


def _manifest_of_journals(layout: Layout, done: Repair, error: UserError) -> Manifest:
    content = frozen_file(layout, layout.manifest.name)
    if layout.manifest.is_file():
        _set_aside(layout, layout.manifest, done)
    if content is not None:
        digest_writer.write_recorded(layout, layout.manifest, content)
        done.rebuilt.append(layout.manifest.name)
        return checked_manifest(layout, layout.manifest)
    why = str(error).partition(";")[0]
    raise DamagedError(
        f"{why}; its content is lost, for no journal holds it. The results are in {layout.spools}: a launch "
        f"with the words of the first one and --dir {layout.root} writes it anew and keeps all"
    ) from error


def _restore_config(layout: Layout, manifest: Manifest, done: Repair) -> None:
    """Accept a ``sweep.yaml`` that can be read where nothing vouches for it, else write one from the
    manifest.
    """
    document: Any = None
    if layout.config.is_file():
        try:
            document = yaml.safe_load(layout.config.read_bytes())
        except (yaml.YAMLError, ValueError):
            document = None
    grows = SPACE in manifest.options  # a search's runs are others than those that it was launched with
    if isinstance(document, dict) and (grows or document.get("manifest") in (None, manifest.digest)):
        digest_writer.record(layout, layout.config)
        return
    if layout.config.is_file():
        _set_aside(layout, layout.config, done)
    document = provenance(manifest, pool="local", address=None, about="")
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    digest_writer.write_recorded(layout, layout.config, text.encode())
    done.rebuilt.append(layout.config.name)
    done.lost.append("sweep.yaml: where and by whom the sweep was launched; written anew from the manifest")


def _settle(layout: Layout, manifest: Manifest, reading: ReplayResult) -> None:
    """Write down what the journals leave open: lost and found results, and which of two counts."""
    _raise_format(layout)
    journal = begin_epoch(layout, manifest.digest, reading)
    doubled = sorted(set(reading.doubly_accepted))
    if doubled:
        at, book = time.time(), reading.book
        journal.void(doubled, at)
        journal.adopt([book.found(i) for i in doubled if book.committed(i)], at)
    journal.close("repaired", time.time())


def _raise_format(layout: Layout) -> None:
    text = layout.config.read_text()
    raised = re.sub(r"(?m)^format: \d+$", f"format: {FORMAT_VERSION}", text, count=1)
    if raised != text:
        digest_writer.write_recorded(layout, layout.config, raised.encode())


def _hashes(layout: Layout) -> dict[str, str]:
    return {p.name: digests.sha256_of(p) for p in _derived(layout) if p.is_file()}


def _derived(layout: Layout) -> Iterator[Path]:
    yield state_path(layout)
    yield from map(layout.table, TABLES)
