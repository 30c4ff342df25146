"""Where a plan's rates come from: measured seconds of finished sweeps, sizes of models and benchmarks."""

from __future__ import annotations

import dataclasses
import json
import re
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.planning.run_seconds import run_seconds
from orchestrator.store.digests import require_intact
from orchestrator.store.layout import Layout
from sweeps.cost.cost import TEXT_BYTES, Part
from sweeps.cost.throughput import (
    TINY_PARAMETERS,
    UNKNOWN,
    Observation,
    Rates,
    calibrate,
    calibrate_runs,
    given_key,
    guess,
    speed_key,
)
from sweeps.cost.work_count import NO_WORK, count_work, passes
from sweeps.grid.columns import combine
from sweeps.manifest.data_files import local_path
from sweeps.manifest.hf_cache import snapshot
from sweeps.manifest.manifest import Manifest
from sweeps.manifest.manifest_file import read_manifest
from sweeps.spec import EvalSpec, ModelSpec, RunSpec, SpecError, rounds_of
from sweeps.spec.errors import UserError

MAX_NEIGHBOURS = 4
"""Newest sweep directories beside a plan's own that are searched for measured runs; each takes some 30 ms."""

MAX_OBSERVATIONS = 2_000
"""Runs read per :func:`~sweeps.cost.throughput.speed_key`: their median is steady long before."""

DEFAULT_ITEMS, DEFAULT_PARAMETERS = 500, 1_000_000_000
"""Assumed of a benchmark that is not here, and of a model whose size neither folder nor name tells."""

TIMINGS = ("rollout_s", "train_s", "eval_s", "wall_s")
"""Columns of ``runs.parquet`` that a run's rates are made of."""


PART_GROUPS = ("model", "trainer", "engine", "resources", "sampling")
"""Groups whose runs are priced apart, as are those that train on other given completions; no optimizer step
is shared between two of their choices.
"""


def measured_rates(place: Path, like: Path | None) -> dict[str, Rates]:
    """Return measured rates by :func:`~sweeps.cost.throughput.speed_key`.

    Args:
        place: the sweep's own directory, whose runs count most.
        like: another sweep directory to read first.

    Raises:
        SpecError: if ``like`` holds no finished run.
    """
    rates: dict[str, Rates] = {}
    for folder in [*([like] if like else []), place, *_neighbours(place)]:
        for key, observed in observations(folder).items():
            rates.setdefault(key, calibrate(observed))
        for key, seconds in run_seconds(folder, MAX_OBSERVATIONS).items():
            rates.setdefault(key, calibrate_runs(seconds))
        if folder == like and not rates:
            raise SpecError(
                f"--like {str(like)!r}: holds no finished run; give a sweep directory with results"
            )
    return rates


def _neighbours(place: Path) -> list[Path]:
    if not place.parent.is_dir():
        return []
    finished = [p.parent for p in place.parent.glob("*/runs.parquet") if p.parent != place]
    return sorted(finished, key=lambda f: -(f / "runs.parquet").stat().st_mtime)[:MAX_NEIGHBOURS]


def observations(folder: Path) -> dict[str, list[Observation]]:
    """Return the timings of a directory's finished runs, by :func:`~sweeps.cost.throughput.speed_key`; empty
    where there are none.
    """
    layout = Layout(folder)
    try:
        for path in (layout.table("runs"), layout.manifest):
            require_intact(layout, path)
        table = pq.read_table(layout.table("runs"), columns=["index", "outcome", *TIMINGS])
        manifest = read_manifest(layout.manifest)
    except (
        OSError,
        pa.ArrowException,
        UserError,
    ):  # not a finished sweep, or one whose trainer keeps no timings
        return {}
    rows = table.filter(pa.compute.equal(table["outcome"], "done")).drop_null().to_pylist()
    found: dict[str, list[Observation]] = {}
    kinds: dict[tuple[int, ...], tuple[str, int]] = {}
    for row in rows:
        index = row["index"]
        if index >= len(manifest):
            continue
        groups = (*PART_GROUPS, "eval", "objective", "data", "curate")
        kind = tuple(int(manifest.group_codes[g][index]) for g in groups)
        if kind not in kinds:
            spec = manifest.spec(index)
            if not spec.trainer.computes_model:
                continue
            kinds[kind] = speed_key(spec), passes(spec.eval) * num_items(spec.eval)
        key, judged = kinds[kind]
        observed = found.setdefault(key, [])
        if len(observed) < MAX_OBSERVATIONS:
            spec = manifest.spec(index)
            due = sum(step > 0 for step in spec.eval_steps)
            done = {
                "steps": sum(phase.num_updates for phase in rounds_of(spec)),
                "draws": sum(phase.num_draws for phase in rounds_of(spec)),
                "judged": judged * due,
            }
            times = {name: row[name] for name in TIMINGS}
            observed.append(Observation(**done, **times))
    return found


def parts_of(
    manifest: Manifest, rates: Mapping[str, Rates], *, num_workers: int, num_gpus: float
) -> list[Part]:
    """Return the runs of ``manifest`` by :data:`PART_GROUPS`, each with its rates."""
    kinds = combine([*(manifest.group_codes[g] for g in PART_GROUPS), _given_codes(manifest)], len(manifest))
    parts: list[Part] = []
    for kind in dict.fromkeys(kinds.tolist()):
        part = manifest.take(np.flatnonzero(kinds == kind))
        first = part.spec(0)
        gpus = first.resources.world_size * first.resources.gpus_per_worker
        slots = num_gpus / gpus if gpus else num_workers / first.resources.world_size
        if not first.trainer.computes_model:
            measured = rates.get(speed_key(first))
            parts.append(
                Part(
                    model=priced_as(first),
                    num_runs=len(part),
                    work=NO_WORK,
                    rates=measured or UNKNOWN,
                    is_unknown=measured is None,
                    num_items=0.0,
                    world_size=first.resources.world_size,
                    gpus=gpus,
                    num_slots=max(1, int(slots)),
                    checkpoint_bytes=0,
                    num_verdicts=0,
                )
            )
            continue
        found, items = _rates_and_items(part, rates)
        parts.append(
            Part(
                model=priced_as(first),
                num_runs=len(part),
                work=count_work(part),
                rates=found,
                num_items=items,
                world_size=first.resources.world_size,
                gpus=gpus,
                num_slots=max(1, int(slots)),
                checkpoint_bytes=_checkpoint_bytes(part),
                num_verdicts=_num_verdicts(part),
                text_bytes=_text_bytes(part),
            )
        )
    return parts


def _given_codes(manifest: Manifest) -> np.ndarray:
    """Runs by what of given completions bears on their seconds, numbered; int64 of shape (runs,)."""
    groups = ("objective", "data", "curate")
    together = combine([manifest.group_codes[g] for g in groups], len(manifest))
    _, rows, which = np.unique(together, return_index=True, return_inverse=True)
    keys = [given_key(*(manifest.group(g, r) for g in groups)) for r in rows.tolist()]
    return np.asarray(np.unique(keys, return_inverse=True)[1][which], dtype=np.int64)


def priced_as(spec: RunSpec) -> str:
    """What a run's seconds are told by: its model's name, or that of a trainer of somebody's own."""
    return spec.model.name if spec.trainer.computes_model else spec.trainer.label


def _rates_and_items(part: Manifest, rates: Mapping[str, Rates]) -> tuple[Rates, float]:
    """Return the rates of a part and the items per pass: with several benchmarks, their mean over passes.

    A benchmark that was not measured makes the whole part a guess.
    """
    chosen, completions, seconds, num_passes = [], 0.0, 0.0, 0
    for num_runs, row in _distinct(part, ("eval",)):
        spec = part.spec(row)
        chosen.append(rates.get(speed_key(spec)) or _guess(spec))
        weight = num_runs * passes(spec.eval)
        num_passes += weight
        completions += weight * num_items(spec.eval)
        seconds += weight * num_items(spec.eval) * chosen[-1].judged_s
    best = max(chosen, key=lambda r: r.num_measured)
    judged_s = seconds / completions if completions else 0.0
    mean = dataclasses.replace(best, judged_s=judged_s, num_measured=min(r.num_measured for r in chosen))
    return mean, completions / num_passes if num_passes else 0.0


def _distinct(manifest: Manifest, names: tuple[str, ...]) -> list[tuple[int, int]]:
    """Return (number of runs, a row) for each distinct combination of groups or ``steps``."""
    columns = [manifest.steps if n == "steps" else manifest.group_codes[n] for n in names]
    _, firsts, counts = np.unique(np.stack(columns), axis=1, return_index=True, return_counts=True)
    return list(zip(counts.tolist(), firsts.tolist(), strict=True))


def _guess(spec: RunSpec) -> Rates:
    size = parameters_of(spec.model) or DEFAULT_PARAMETERS
    objective, sampling = spec.objective, spec.sampling
    drawn = spec.rollouts_at_once
    given = objective.sequences_per_row * spec.data.prompts_per_step
    return guess(size, drawn, sampling.max_new_tokens, spec.eval.max_new_tokens, given)


def _num_verdicts(manifest: Manifest) -> int:
    """Count the completions of all evaluations, those of the untrained model included."""
    return sum(
        num_runs * len(spec.eval_steps) * passes(spec.eval) * num_items(spec.eval)
        for num_runs, row in _distinct(manifest, ("eval", "steps"))
        for spec in (manifest.spec(row),)
    )


def _text_bytes(manifest: Manifest) -> int:
    """Bytes of rollout text at the first and the last step, at most; next to nothing for tiny models, whose
    rollouts are short and mostly equal.
    """
    spec = manifest.spec(0)
    if (parameters_of(spec.model) or DEFAULT_PARAMETERS) <= TINY_PARAMETERS:
        return 0
    drawing = sum(
        n for n, row in _distinct(manifest, ("objective",)) if manifest.spec(row).objective.draws_rollouts
    )
    return 2 * drawing * spec.sampling.num_rollouts * spec.sampling.max_new_tokens * TEXT_BYTES


def _checkpoint_bytes(manifest: Manifest) -> int:
    """Bytes of the weights that the retention policy keeps."""
    spec = manifest.spec(0)
    each = (parameters_of(spec.model) or DEFAULT_PARAMETERS) * (4 if spec.engine.precision == "fp32" else 2)
    policy = spec.resources.keep_checkpoints
    if policy == "none":
        return 0
    if policy == "best":
        return each * min(len(manifest), spec.resources.keep_best_k)
    if policy == "last":
        return each * len(manifest)
    return each * sum(
        n * sum(step > 0 for step in manifest.spec(row).eval_steps)
        for n, row in _distinct(manifest, ("eval", "steps"))
    )


def parameters_of(spec: ModelSpec) -> int | None:
    """Return a model's number of weights: from its safetensors headers, else from a name such as ``7B``."""
    folder = snapshot(spec.hub_id, spec.revision or "main") if spec.hub_id else local_path(spec.path)
    total = sum(_elements(f) for f in folder.glob("*.safetensors")) if folder and folder.is_dir() else 0
    if total:
        return total
    named = re.search(r"(\d+(?:\.\d+)?)[bB]\b", spec.hub_id or spec.path)
    return int(float(named[1]) * 1e9) if named else None


def _elements(file: Path) -> int:
    """Sum the sizes of the tensors that a safetensors file's header lists."""
    with file.open("rb") as opened:
        (length,) = struct.unpack("<Q", opened.read(8))
        header = json.loads(opened.read(length))
    return sum(int(np.prod(t["shape"])) for name, t in header.items() if name != "__metadata__")


def num_items(spec: EvalSpec) -> int:
    """Return the number of benchmark items that are used."""
    if spec.path is None:
        return 0
    try:
        text = local_path(spec.path).read_bytes()
    except OSError:
        return spec.limit or DEFAULT_ITEMS
    lines = sum(bool(line.strip()) for line in text.split(b"\n"))
    return min(spec.limit, lines) if spec.limit else lines
