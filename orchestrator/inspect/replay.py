"""Runs a committed run again, cold, in fresh processes, and compares every stored number with the first.

Keys that end in ``_s`` are timings and exempt. The layout of the recorded attempt (world size, micro batch,
threads) is used again, since only the same layout promises the same bits.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.pools.local import LocalPool
from orchestrator.pools.temp_folders import TemporaryFolder, remove_leftovers
from orchestrator.scheduling.events import Reported, WorkerLost, WorkerReady
from orchestrator.scheduling.workload import shape_of
from orchestrator.store.index_reader import read_index
from orchestrator.store.layout import Layout
from orchestrator.store.outcomes import AttemptReport, Failure, Grant
from orchestrator.store.spool import LineReader
from orchestrator.trust.code_files import require_same_code
from orchestrator.trust.gate import Permission
from orchestrator.worker.process_env import own_import_path
from orchestrator.worker.protocol import Task, WorkerSetup
from sweeps.manifest.manifest import Manifest
from sweeps.spec import RUN_ID_LENGTH, RunSpec
from sweeps.spec.errors import UserError, nearest
from trainers.run_result import TIMING_SUFFIX, RunResult, numerics_of

MAX_FIELDS_SHOWN = 20
"""Differing fields that are named; the count covers all."""


MAX_COMPARED = 2_000
"""Runs whose ids and names are compared with one that is not known: comparing takes some 50 µs each."""

ID_RULE = f"(an id has {RUN_ID_LENGTH} digits, see runs.parquet)"
"""How runs are named."""


RECORDED_OF_ENGINE = ("zero_stage", "micro_batch", "rollout_rows", "eval_rows")
"""What of ``engine`` a run's layout says under the same name."""


@dataclass(frozen=True, kw_only=True)
class Replay:
    """How the second result compares with the first."""

    run_id: str
    """The run."""
    compared: int
    """Numbers and texts compared."""
    max_abs_diff: float
    """Largest difference between two numbers; infinite where one is missing or not finite."""
    fields: list[str]
    """Names of what differs, the first few."""
    environment: list[str]
    """Versions, processor, threads or switches of the process that differ from the recorded ones."""
    cause: str
    """What the difference comes from, as far as can be told; empty where nothing differs."""

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return not self.fields

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain values."""
        data = {k: getattr(self, k) for k in ("run_id", "equal", "max_abs_diff", "fields")}
        rest = {k: getattr(self, k) for k in ("compared", "environment", "cause")}
        return data | rest


def find_run(manifest: Manifest, text: str) -> int:
    """Index of the run whose id begins with ``text``, or whose name is ``text``.

    Raises:
        UserError: when none or several match.
    """
    found = find_runs(manifest, text)
    if len(found) == 1:
        return found[0]
    raise UserError(f"run {text!r}: {len(found)} runs begin so; give more digits {ID_RULE}")


def find_runs(manifest: Manifest, text: str) -> list[int]:
    """Indexes of the runs whose id begins with ``text``, or whose name is ``text``.

    Raises:
        UserError: when there is none.
    """
    found = [i for i, run_id in enumerate(manifest.run_ids) if run_id.startswith(text)]
    found = found or [i for i in range(len(manifest)) if manifest.name(i) == text]
    if found:
        return found
    known = [known for i in range(min(len(manifest), MAX_COMPARED)) for known in _known_as(manifest, i, text)]
    raise UserError(f"run {text!r}: no run has that id or name{nearest(text, known)} {ID_RULE}")


def _known_as(manifest: Manifest, index: int, text: str) -> tuple[str, str]:
    """A run's name, and as many digits of its id as somebody has written."""
    return manifest.name(index), manifest.run_ids[index][: max(len(text), 4)]


def replay(
    layout: Layout, manifest: Manifest, index: int, permission: Permission, save: Path | None = None
) -> Replay:
    """Run one committed run again and compare.

    Raises:
        UserError: when the run has no result, or does not finish this time.
    """
    if save is not None and save.exists():
        raise UserError(f"--save {save}: is there already; give a new folder")
    permission.require(manifest)
    require_same_code(manifest.take([index]), layout.root)
    first = stored_result(layout, manifest, index)
    spec = recorded_spec(manifest.spec(index), first.layout)
    if save is not None:
        resources = dataclasses.replace(spec.resources, keep_checkpoints="last")
        spec = dataclasses.replace(spec, resources=resources)
    threads = int(first.layout.get("threads", 1))
    second = run_cold(spec, manifest.run_ids[index], threads, save, layout.root)
    differing = list(differences(first, second))
    environment = _environment(first.layout, second.layout)
    cause = "; ".join(line for line in environment if not line.startswith("host:")) if differing else ""
    if differing and not cause:
        third = run_cold(spec, manifest.run_ids[index], threads, None, layout.root)
        cause = cause_by_repetition(second, third)
    return Replay(
        run_id=manifest.run_ids[index],
        compared=sum(1 for _ in _leaves("", _comparable(first))),
        max_abs_diff=max((size for _, size in differing), default=0.0),
        fields=[name for name, _ in differing[:MAX_FIELDS_SHOWN]],
        environment=environment,
        cause=cause,
    )


def cause_by_repetition(second: RunResult, third: RunResult) -> str:
    """Why a recorded result differs from both of these, computed cold in the same environment."""
    differing = next(differences(second, third), None)
    if differing is not None:
        return (
            f"the run does not repeat: two fresh processes differ in {differing[0]} from each other; its "
            "trainer draws randomness that the seed does not key, or reads the clock"
        )
    return (
        "two fresh processes agree with each other: the recorded worker's earlier runs had changed something "
        "in its process, the code of the trainer is another now, or the stored numbers were changed"
    )


def _environment(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What of two layouts differs, and so may explain other numbers; the version of the numbers first."""
    versions = {"numerics": numerics_of(then)}, {"numerics": numerics_of(now)}
    old, new = versions[0] | dict(then), versions[1] | dict(now)
    return [
        f"{key}: {value!r} then, {new.get(key)!r} now"
        for key, value in old.items()
        if new.get(key) != value and not key.endswith(TIMING_SUFFIX)
    ]


def stored_result(layout: Layout, manifest: Manifest, index: int) -> RunResult:
    """The committed result of a run, as its spool holds it.

    Raises:
        UserError: when there is none, or its line cannot be read.
    """
    book = read_index(layout, manifest.run_ids, live=True).book
    if not book.committed(index):
        raise UserError(f"run {manifest.run_ids[index]}: has no result to compare with")
    lines = LineReader(layout.spools)
    line = lines.read(book.spools[book.spool[index]], *book.location(index))
    lines.close()
    if line is None:
        raise UserError(
            f"run {manifest.run_ids[index]}: its stored result cannot be read; see `emsweep verify`"
        )
    return RunResult.from_json(line.result())


def recorded_spec(spec: RunSpec, layout: Mapping[str, Any]) -> RunSpec:
    """The spec with the layout that the recorded attempt really used."""
    engine = {k: layout[k] for k in RECORDED_OF_ENGINE if isinstance(layout.get(k), int)}
    engine["pack"] = layout.get("pack", 0)
    resources = {"world_size": layout["world_size"]} if isinstance(layout.get("world_size"), int) else {}
    return dataclasses.replace(
        spec,
        engine=dataclasses.replace(spec.engine, **engine),
        resources=dataclasses.replace(spec.resources, **resources),
    )


def run_cold(
    spec: RunSpec, run_id: str, threads: int = 1, save: Path | None = None, sweep: Path | None = None
) -> RunResult:
    """Run a spec once in fresh processes.

    Raises:
        UserError: when it fails; the message holds its traceback.
    """
    remove_leftovers()
    with TemporaryFolder("replay") as folder:
        root = folder.path
        shape = shape_of(spec.resources)
        pool = LocalPool(shape.world_size, threads=threads)
        weights = root if save is None else save.parent / f".{save.name}.part"
        setup = WorkerSetup(
            name="replay",
            spool=root / "replay.jsonl",
            checkpoints=weights.resolve(),
            log=root / "replay.log",
            import_path=own_import_path(sweep),
        )
        try:
            pool.start_worker(setup, shape)
            report = _report_of(pool, setup, Task(Grant(0, 0, 1), run_id, spec))
        finally:
            pool.close()
        if save is not None:
            (weights / run_id).rename(save)
            weights.rmdir()
        lines = LineReader(root)
        line = lines.read(report.spool, report.offset, report.length)
        lines.close()
        assert line is not None, "the worker reported a line that its spool does not hold"
        return RunResult.from_json(line.result())


def _report_of(pool: LocalPool, setup: WorkerSetup, task: Task) -> AttemptReport:
    """Hand a run out, once the worker's ranks have met, and wait for what comes of it."""
    while True:
        for event in pool.events(0.2):
            if isinstance(event, WorkerReady):
                pool.dispatch(setup.name, [task])
            if isinstance(event, Reported):
                report = event.reports[0]
                if report.failure is not None:
                    raise UserError(f"the run failed this time: {_told(report.failure)}")
                return report
            if isinstance(event, WorkerLost):
                log = setup.log.read_text(errors="replace")[-2000:]
                raise UserError(f"the fresh process was lost: {event.reason}\n{log}")
        time.sleep(0)


def _told(failure: Failure) -> str:
    return f"{failure.message}\n{failure.details}"


def differences(first: RunResult, second: RunResult) -> Iterator[tuple[str, float]]:
    """Names of stored values that differ, with the size of the difference; timings are exempt."""
    a, b = dict(_leaves("", _comparable(first))), dict(_leaves("", _comparable(second)))
    for name in sorted(a.keys() | b.keys()):
        x, y = a.get(name), b.get(name)
        if x == y or (isinstance(x, float) and isinstance(y, float) and x != x and y != y):
            continue
        numbers = isinstance(x, (int, float)) and isinstance(y, (int, float))
        size = abs(float(x) - float(y)) if numbers else float("inf")  # type: ignore[arg-type]
        yield name, size if size == size else float("inf")


def _comparable(result: RunResult) -> dict[str, Any]:
    """What two results must agree on: everything but timings and the record of the layout."""
    data = dataclasses.asdict(result)
    data.pop("layout")
    return data


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not str(key).endswith(TIMING_SUFFIX):
                yield from _leaves(f"{name}.{key}" if name else str(key), inner)
    elif isinstance(value, (list, tuple)):
        yield f"{name}.length", len(value)
        for position, inner in enumerate(value):
            yield from _leaves(f"{name}[{position}]", inner)
    else:
        yield name, value
