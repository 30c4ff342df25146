"""How much a sweep computes, with and without sharing. Pure.

Counts agree with :func:`sweeps.sharing.stages.plan_stages` on every sweep (tested), but are taken from the
manifest's columns: runs with the same set of rates and evaluations below one trunk make the same tree, which
is built once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sweeps.grid.columns import combine
from sweeps.manifest.manifest import Manifest
from sweeps.sharing.schedules import ProbedRate, Rate, rates
from sweeps.sharing.share_groups import ShareGroups, has_phases
from sweeps.sharing.stages import (
    Stage,
    base_evaluation_key,
    evaluation_key,
    gradient_key,
    plan_stages,
    rollout_key,
    start_key,
)
from sweeps.spec import EvalSpec, RunSpec, phases_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """How much is computed."""

    steps: int
    """Optimizer steps, with those that try rates and are undone."""
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
    shared: Work
    """Each stage, step-0 rollout and gradient, and evaluation once."""


_NOTHING = Work(steps=0, rollout_batches=0, gradients=0, eval_passes=0, base_eval_passes=0)

NO_WORK = SweepWork(naive=_NOTHING, shared=_NOTHING)
"""That of no runs, and of trainers of somebody's own, whose work is not counted in these terms."""


def count_work(manifest: Manifest) -> SweepWork:
    """Count a sweep's work in time linear in its runs."""
    specs = [manifest.spec(i) for i in range(len(manifest))] if has_phases(manifest) else []
    if specs:
        return _count_phases(specs)
    if not len(manifest):
        return NO_WORK
    share_groups = ShareGroups(manifest)
    columns = _Columns(manifest, share_groups)
    undone_steps, undone_draws = columns.undone()
    steps = int((manifest.steps + undone_steps).sum())
    eval_passes, base_passes = columns.naive_eval_passes()
    naive = Work(
        steps=steps,
        rollout_batches=int((manifest.steps + undone_draws)[columns.draws].sum()),
        gradients=steps,
        eval_passes=eval_passes,
        base_eval_passes=base_passes,
    )
    trees, draws = [], []
    for trunk, pairs in columns.trunks():
        trees.append(columns.tree(pairs))
        draws.append(columns.draws_of_trunk(trunk))
    first_steps = sum(t.num_first_steps for t in trees)
    shared_steps = sum(t.num_steps + t.undone_steps for t in trees)
    later_draws = sum(
        t.num_steps - t.num_first_steps + t.undone_draws for t, d in zip(trees, draws, strict=True) if d
    )
    shared = Work(
        steps=shared_steps,
        rollout_batches=later_draws + len(np.unique(share_groups.same_rollouts[columns.draws])),
        gradients=shared_steps - first_steps + share_groups.num_same_gradient,
        eval_passes=sum(t.eval_passes for t in trees),
        base_eval_passes=columns.base_eval_passes(),
    )
    return SweepWork(naive=naive, shared=shared)


@dataclass(frozen=True, slots=True)
class _Tree:
    """Counts of one trunk's tree."""

    num_steps: int
    num_first_steps: int
    undone_steps: int
    undone_draws: int
    eval_passes: int  # after step 0


class _Columns:
    """The manifest by rates, horizons and evaluations."""

    def __init__(self, manifest: Manifest, share_groups: ShareGroups) -> None:
        self._manifest = manifest
        self._trunk = share_groups.same_trunk
        self._trees: dict[tuple[int, ...], _Tree] = {}

    @cached_property
    def draws(self) -> np.ndarray:
        """Whether a run draws rollouts, bool of shape (runs,)."""
        codes = self._manifest.group_codes["objective"]
        _, rows, which = np.unique(codes, return_index=True, return_inverse=True)
        found = [self._manifest.group("objective", row).draws_rollouts for row in rows.tolist()]
        draws: np.ndarray = np.array(found, dtype=bool)[which]
        return draws

    @cached_property
    def _run_of_trunk(self) -> dict[int, int]:
        trunks, rows = np.unique(self._trunk, return_index=True)
        return dict(zip(trunks.tolist(), rows.tolist(), strict=True))

    def draws_of_trunk(self, trunk: int) -> bool:
        """Whether the runs of a trunk draw rollouts; they agree on the objective."""
        return bool(self.draws[self._run_of_trunk[trunk]])

    @cached_property
    def _pair(self) -> np.ndarray:
        """One choice of rates, horizon and evaluation, numbered."""
        codes, m = self._manifest.group_codes, self._manifest
        return combine([codes["optim"], codes["schedule"], m.steps, codes["eval"]], len(m))

    @cached_property
    def _first_of_pair(self) -> np.ndarray:
        return np.unique(self._pair, return_index=True)[1]

    @cached_property
    def _rates_of_pair(self) -> list[tuple[Rate, ...]]:
        found = []
        for row in self._first_of_pair.tolist():
            lr = self._manifest.group("optim", row).lr
            schedule = self._manifest.group("schedule", row)
            found.append(rates(schedule, lr, int(self._manifest.steps[row])))
        return found

    def undone(self) -> tuple[np.ndarray, np.ndarray]:
        """Steps that try rates, and the draws of those, of each run; two int64 of shape (runs,)."""
        pairs = [
            (self._manifest.group("schedule", row), int(self._manifest.steps[row]))
            for row in self._first_of_pair.tolist()
        ]
        steps = np.array([schedule.undone_steps(num) for schedule, num in pairs])
        draws = np.array([schedule.undone_draws(num) for schedule, num in pairs])
        return steps[self._pair], draws[self._pair]

    @cached_property
    def _eval_of_pair(self) -> list[tuple[EvalSpec, str, tuple[int, ...]]]:
        """Settings, their key, and the steps at which a pair is evaluated."""
        settings = []
        for row in self._first_of_pair.tolist():
            spec = self._manifest.group("eval", row)
            settings.append((spec, evaluation_key(spec), self._manifest.spec(row).eval_steps))
        return settings

    def trunks(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Yield each trunk and the distinct pairs below it."""
        width = len(self._first_of_pair)
        joint = np.unique(self._trunk * width + self._pair)
        starts = np.flatnonzero(np.diff(joint // width, prepend=-1))
        pairs = (joint % width).tolist()
        for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(pairs)], strict=True):
            yield int(joint[start] // width), tuple(pairs[start:stop])

    def tree(self, pairs: tuple[int, ...]) -> _Tree:
        """Return the counts of the tree that ``pairs`` make."""
        if pairs not in self._trees:
            self._trees[pairs] = self._build(pairs)
        return self._trees[pairs]

    def _build(self, pairs: tuple[int, ...]) -> _Tree:
        nodes: dict[tuple[int, Rate], int] = {}
        probed: set[tuple[int, ProbedRate]] = set()
        evaluated: dict[tuple[int, str], int] = {}
        for pair in pairs:
            spec, key, due = self._eval_of_pair[pair]
            node = 0
            for number, lr in enumerate(self._rates_of_pair[pair], 1):
                if isinstance(lr, ProbedRate) and lr.is_due(number - 1):
                    probed.add((node, lr))
                node = nodes.setdefault((node, lr), len(nodes) + 1)
                if number in due:
                    evaluated[(node, key)] = passes(spec)
        first = sum(1 for parent, _ in nodes if parent == 0)
        return _Tree(
            num_steps=len(nodes),
            num_first_steps=first,
            undone_steps=sum(lr.undone_steps for _, lr in probed),
            undone_draws=sum(lr.undone_draws for _, lr in probed),
            eval_passes=sum(evaluated.values()),
        )

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


def _count_phases(specs: Sequence[RunSpec]) -> SweepWork:
    """Count the work of runs some of which start from others', by walking their stages."""
    phases = [phases_of(spec) for spec in specs]
    steps = sum(phase.num_updates for each in phases for phase in each)
    due = [(spec, sum(step > 0 for step in spec.eval_steps)) for spec in specs]
    naive = Work(
        steps=steps,
        rollout_batches=sum(phase.num_draws for each in phases for phase in each),
        gradients=steps,
        eval_passes=sum(num * passes(spec.eval) for spec, num in due),
        base_eval_passes=sum(passes(spec.eval) for spec in specs if 0 in spec.eval_steps),
    )
    stages = list(_walk(plan_stages(specs)))
    of_stage = [phases[s.runs[0]][s.phase] for s in stages]
    begins = [s.first_step == spec.steps_before + 1 for spec, s in zip(of_stage, stages, strict=True)]
    firsts = [spec for spec, is_first in zip(of_stage, begins, strict=True) if is_first]
    probed = [_probed(spec, s) for spec, s in zip(of_stage, stages, strict=True)]
    shared_steps = sum(len(s.lrs) for s in stages) + sum(p.undone_steps for ps in probed for p in ps)
    draws = sum(
        _draws_of(spec, len(s.lrs) + sum(p.undone_draws for p in ps), is_first)
        for spec, s, ps, is_first in zip(of_stage, stages, probed, begins, strict=True)
    )
    # Only the rollouts of the first round are drawn by a model that runs with equal keys have in common.
    in_common = [spec for spec in firsts if spec.num_draws and not spec.steps_before]
    first_draws = [(start_key(spec), rollout_key(spec)) for spec in in_common]
    later = shared_steps - len(firsts)
    shared = Work(
        steps=shared_steps,
        rollout_batches=draws - len(first_draws) + len(set(first_draws)),
        gradients=later + len({(start_key(spec), gradient_key(spec)) for spec in firsts}),
        eval_passes=sum(
            passes(specs[group[0]].eval)
            for s in stages
            for n, paths in s.evaluations.items()
            if n
            for group in paths
        ),
        base_eval_passes=_base_passes([spec for spec in specs if 0 in spec.eval_steps]),
    )
    return SweepWork(naive=naive, shared=shared)


def _probed(spec: RunSpec, stage: Stage) -> list[ProbedRate]:
    """Rates that a stage finds."""
    steps = ((number - spec.steps_before - 1, lr) for number, lr in stage.steps())
    return [lr for step, lr in steps if isinstance(lr, ProbedRate) and lr.is_due(step)]


def _draws_of(spec: RunSpec, num_steps: int, begins: bool) -> int:
    """Times that a stage draws: a round does so at its beginning alone."""
    if spec.curate.is_on:
        return int(begins)
    return num_steps if spec.num_draws else 0


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
