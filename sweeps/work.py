"""How much a sweep computes, with and without sharing, and which runs should travel together. Pure.

Counts agree with :func:`sweeps.stages.plan_stages` on every sweep (tested), but are taken from the manifest's
columns: runs with the same set of rates and evaluations below one trunk make the same tree, which is built
once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sweeps.columns import combine
from sweeps.manifest import Manifest
from sweeps.schedules import multipliers
from sweeps.spec import EvalSpec, RunSpec, canonical_json, phases_of
from sweeps.stages import (
    KIN_GROUPS,
    Stage,
    base_evaluation_key,
    evaluation_key,
    gradient_key,
    plan_stages,
    rollout_key,
    trunk_key,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """How much is computed."""

    steps: int
    """Optimizer steps."""
    rollout_batches: int
    """Times a step's rollouts are drawn."""
    gradients: int
    """Times a step's gradient is computed."""
    eval_passes: int
    """Completions per benchmark item over all evaluations of trained models: one for greedy, one per sample
    and temperature.
    """
    base_eval_passes: int
    """The same for the untrained models."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepWork:
    """A sweep's work with and without sharing."""

    naive: Work
    """Every run by itself."""
    shared: Work
    """Each stage, step-0 rollout and gradient, and evaluation once."""


def count_work(manifest: Manifest) -> SweepWork:
    """Count a sweep's work in time linear in its runs."""
    specs = [manifest.spec(i) for i in range(len(manifest))] if has_phases(manifest) else []
    if specs:
        return _count_phases(specs)
    if not len(manifest):
        nothing = Work(steps=0, rollout_batches=0, gradients=0, eval_passes=0, base_eval_passes=0)
        return SweepWork(naive=nothing, shared=nothing)
    columns = _Columns(manifest)
    steps = int(manifest.steps.sum())
    eval_passes, base_passes = columns.naive_eval_passes()
    naive = Work(
        steps=steps,
        rollout_batches=steps,
        gradients=steps,
        eval_passes=eval_passes,
        base_eval_passes=base_passes,
    )
    trees = [columns.tree(pairs) for pairs in columns.trunks()]
    first_steps = sum(t.num_first_steps for t in trees)
    shared_steps = sum(t.num_steps for t in trees)
    shared = Work(
        steps=shared_steps,
        rollout_batches=shared_steps - first_steps + columns.num_kin,
        gradients=shared_steps - first_steps + columns.num_gradients,
        eval_passes=sum(t.eval_passes for t in trees),
        base_eval_passes=columns.base_eval_passes(),
    )
    return SweepWork(naive=naive, shared=shared)


@dataclass(frozen=True, kw_only=True, slots=True)
class Batches:
    """Runs in groups that one worker should run together."""

    order: np.ndarray
    """The runs batch by batch, in their old order within each, int64, shape (rows,)."""
    number: np.ndarray
    """Batch of each entry of ``order``, from 0 without gaps, never falling, int64, shape (rows,)."""

    def __len__(self) -> int:
        return int(self.number[-1]) + 1 if len(self.number) else 0

    def __iter__(self) -> Iterator[list[int]]:
        ends = np.flatnonzero(np.diff(self.number)) + 1
        return (part.tolist() for part in np.split(self.order, ends)) if len(self.order) else iter(())


def batches(manifest: Manifest, rows: Sequence[int] | np.ndarray, max_runs: int) -> Batches:
    """Return ``rows`` in groups that one worker should run together.

    Kin (see :mod:`sweeps.stages`) stay together up to ``max_runs``; above that they part between trunks, so
    that no optimizer step is computed twice unless a single trunk holds more runs than that.
    """
    columns, chosen = _Columns(manifest), np.asarray(rows, dtype=np.int64)
    if columns.num_kin == len(manifest):
        return Batches(order=chosen, number=np.arange(len(chosen)))
    _, first_of_kin, kin = np.unique(columns.kin[chosen], return_index=True, return_inverse=True)
    _, first, trunk = np.unique(columns.trunk[chosen], return_index=True, return_inverse=True)
    kin_of_trunk = kin[first]  # a trunk lies within one kin
    by_appearance = np.lexsort((first, first_of_kin[kin_of_trunk]))
    sizes, kins = np.bincount(trunk)[by_appearance].tolist(), kin_of_trunk[by_appearance].tolist()
    batch_of_trunk = np.empty(len(first), dtype=np.int64)
    batch, filled, last = -1, 0, -1
    for place, (size, own) in enumerate(zip(sizes, kins, strict=True)):
        if own != last or filled + size > max_runs:
            batch, filled, last = batch + 1, 0, own
        filled += size
        batch_of_trunk[by_appearance[place]] = batch
    number = batch_of_trunk[trunk]
    places = np.lexsort((chosen, number))
    return Batches(order=chosen[places], number=number[places])


@dataclass(frozen=True, slots=True)
class _Tree:
    """Counts of one trunk's tree."""

    num_steps: int
    num_first_steps: int
    eval_passes: int  # after step 0


class _Columns:
    """The manifest by what decides sharing."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._trees: dict[tuple[int, ...], _Tree] = {}
        codes = manifest.group_codes
        num = len(manifest)
        _, seed = np.unique(manifest.seeds, return_inverse=True)
        kin = combine([*(codes[g] for g in KIN_GROUPS), seed], num)
        self._first_phases = _first_phases(manifest) if has_phases(manifest) else {}
        self.kin = self._as_first_phase(kin, rollout_key)
        self.num_kin = len(np.unique(self.kin))

    @cached_property
    def gradient(self) -> np.ndarray:
        """Runs that share a step-0 gradient, numbered."""
        return combine([self.kin, self._manifest.group_codes["objective"]], len(self._manifest))

    @cached_property
    def num_gradients(self) -> int:
        return len(np.unique(self.gradient))

    @cached_property
    def trunk(self) -> np.ndarray:
        """Runs that differ in rates, horizon and evaluation alone, numbered."""
        optim = self._optim_without_rate[self._manifest.group_codes["optim"]]
        trunk = combine([self.gradient, optim], len(self._manifest))
        return self._as_first_phase(trunk, trunk_key)

    def _as_first_phase(self, numbers: np.ndarray, key: Callable[[RunSpec], str]) -> np.ndarray:
        """Give runs that start from another's result the number of that one's, or one that they share."""
        if not self._first_phases:
            return numbers
        found, missing = numbers.copy(), int(numbers.max()) + 1
        shared: dict[str, int] = {}
        for row, (earlier, spec) in self._first_phases.items():
            if earlier >= 0:
                found[row] = numbers[earlier]
            else:
                found[row] = shared.setdefault(key(spec), missing + len(shared))
        return np.unique(found, return_inverse=True)[1]

    @cached_property
    def _pair(self) -> np.ndarray:
        """One choice of rates, horizon and evaluation, numbered."""
        codes, m = self._manifest.group_codes, self._manifest
        return combine([codes["optim"], codes["schedule"], m.steps, codes["eval"]], len(m))

    @cached_property
    def _first_of_pair(self) -> np.ndarray:
        return np.unique(self._pair, return_index=True)[1]

    @cached_property
    def _optim_without_rate(self) -> np.ndarray:
        seen: dict[str, int] = {}
        codes = []
        for text in self._manifest.groups["optim"]:
            rest = {k: v for k, v in json.loads(text).items() if k != "lr"}
            codes.append(seen.setdefault(canonical_json(rest), len(seen)))
        return np.array(codes)

    @cached_property
    def _rates_of_pair(self) -> list[tuple[float, ...]]:
        rates = []
        for row in self._first_of_pair.tolist():
            lr = self._manifest.group("optim", row).lr
            schedule = self._manifest.group("schedule", row)
            rates.append(tuple(lr * m for m in multipliers(schedule, int(self._manifest.steps[row]))))
        return rates

    @cached_property
    def _eval_of_pair(self) -> list[tuple[EvalSpec, str, tuple[int, ...]]]:
        """Settings, their key, and the steps at which a pair is evaluated."""
        found = []
        for row in self._first_of_pair.tolist():
            spec = self._manifest.group("eval", row)
            found.append((spec, evaluation_key(spec), self._manifest.spec(row).eval_steps))
        return found

    def trunks(self) -> Iterator[tuple[int, ...]]:
        """Yield the distinct pairs below each trunk."""
        width = len(self._first_of_pair)
        joint = np.unique(self.trunk * width + self._pair)
        starts = np.flatnonzero(np.diff(joint // width, prepend=-1))
        pairs = (joint % width).tolist()
        for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(pairs)], strict=True):
            yield tuple(pairs[start:stop])

    def tree(self, pairs: tuple[int, ...]) -> _Tree:
        """Return the counts of the tree that ``pairs`` make."""
        if pairs not in self._trees:
            self._trees[pairs] = self._build(pairs)
        return self._trees[pairs]

    def _build(self, pairs: tuple[int, ...]) -> _Tree:
        nodes: dict[tuple[int, float], int] = {}
        evaluated: dict[tuple[int, str], int] = {}
        for pair in pairs:
            spec, key, due = self._eval_of_pair[pair]
            node = 0
            for number, lr in enumerate(self._rates_of_pair[pair], 1):
                node = nodes.setdefault((node, lr), len(nodes) + 1)
                if number in due:
                    evaluated[(node, key)] = passes(spec)
        first = sum(1 for parent, _ in nodes if parent == 0)
        return _Tree(len(nodes), first, sum(evaluated.values()))

    def naive_eval_passes(self) -> tuple[int, int]:
        """Return the passes of all runs by themselves, over trained and over untrained models."""
        trained = base = 0
        for num, (spec, _, due) in zip(np.bincount(self._pair).tolist(), self._eval_of_pair, strict=True):
            base += num * passes(spec) * (0 in due)
            trained += num * passes(spec) * sum(step > 0 for step in due)
        return trained, base

    def base_eval_passes(self) -> int:
        """Return the passes over the untrained models: greedy ones once, sampled ones per seed."""
        codes, m = self._manifest.group_codes, self._manifest
        judged = [(key, spec) if 0 in due else None for spec, key, due in self._eval_of_pair]
        keys = {k: i for i, k in enumerate(dict.fromkeys(j[0] for j in judged if j))}
        of_pair = np.array([keys[j[0]] if j else -1 for j in judged])
        which = of_pair[self._pair]
        rows = np.flatnonzero(which >= 0)
        places = combine(
            [codes[g][rows] for g in ("model", "engine", "resources")] + [which[rows]], len(rows)
        )
        specs = {keys[j[0]]: j[1] for j in judged if j}
        _, firsts = np.unique(places, return_index=True)
        greedy = sum(int(specs[int(which[rows[i]])].greedy) for i in firsts.tolist())
        _, firsts = np.unique(combine([places, m.seeds[rows]], len(rows)), return_index=True)
        sampled = sum(_sampled_passes(specs[int(which[rows[i]])]) for i in firsts.tolist())
        return greedy + sampled


def has_phases(manifest: Manifest) -> bool:
    """Whether any run starts from another's result."""
    codes = np.unique(manifest.group_codes["init"], return_index=True)[1]
    return any(manifest.group("init", int(row)).changes for row in codes.tolist())


def _first_phases(manifest: Manifest) -> dict[int, tuple[int, RunSpec]]:
    """The earliest phase of each run that has several: its row if it is one of the runs, and what it is."""
    found = {}
    for row in range(len(manifest)):
        if manifest.group("init", row).changes:
            first = phases_of(manifest.spec(row))[0]
            found[row] = (manifest.index_of.get(first.run_id, -1), first)
    return found


def _count_phases(specs: Sequence[RunSpec]) -> SweepWork:
    """Count the work of runs some of which start from others', by walking their stages."""
    phases = [phases_of(spec) for spec in specs]
    steps = sum(phase.steps for each in phases for phase in each)
    due = [(spec, sum(step > 0 for step in spec.eval_steps)) for spec in specs]
    naive = Work(
        steps=steps,
        rollout_batches=steps,
        gradients=steps,
        eval_passes=sum(num * passes(spec.eval) for spec, num in due),
        base_eval_passes=sum(passes(spec.eval) for spec in specs if 0 in spec.eval_steps),
    )
    stages = list(_walk(plan_stages(specs)))
    firsts = [phases[s.runs[0]][s.phase] for s in stages if s.first_step == 1]
    shared_steps = sum(len(s.lrs) for s in stages)
    later = shared_steps - len(firsts)
    shared = Work(
        steps=shared_steps,
        rollout_batches=later + len({rollout_key(spec) for spec in firsts}),
        gradients=later + len({gradient_key(spec) for spec in firsts}),
        eval_passes=sum(
            passes(specs[group[0]].eval)
            for s in stages
            for n, some in s.evaluations.items()
            if n
            for group in some
        ),
        base_eval_passes=_base_passes([spec for spec in specs if 0 in spec.eval_steps]),
    )
    return SweepWork(naive=naive, shared=shared)


def _walk(stages: Sequence[Stage]) -> Iterator[Stage]:
    for stage in stages:
        yield stage
        yield from _walk(stage.children)


def _base_passes(specs: Sequence[RunSpec]) -> int:
    greedy = {base_evaluation_key(s, sampled=False): int(s.eval.greedy) for s in specs}
    sampled = {base_evaluation_key(s, sampled=True): _sampled_passes(s.eval) for s in specs}
    return sum(greedy.values()) + sum(sampled.values())


def passes(spec: EvalSpec) -> int:
    """Return the completions per item of one evaluation."""
    return int(spec.greedy) + _sampled_passes(spec)


def _sampled_passes(spec: EvalSpec) -> int:
    return len(spec.temperatures) * spec.num_samples
