"""Shared work: which stretches of training, rollouts and evaluations several runs have in common. Pure.

Sharing is exact. Two runs share optimizer steps 1 … k if everything that reaches those steps agrees: their
*trunk* (model, trainer, engine and its layout, example or training set, sampling, objective, optimizer
without its rate, seed) and, step by step, the learning rate itself. No flag on a schedule decides it:
constant schedules of different horizons agree everywhere, cosine schedules of different horizons nowhere
after the first step, warmups as far as they go. Rates that a run finds as it goes are equal where they are
found alike (:class:`sweeps.sharing.schedules.ProbedRate`), and differ from all others. The same holds of the
rows that steps take of a training set, which do not depend on the horizon. Evaluation is not in the trunk:
judging a model does not change it.

The runs of one trunk form a tree whose edges are optimizer steps. A :class:`Stage` is a stretch of it without
a fork or an end. A run that starts from another's result has several *phases*
(:func:`sweeps.spec.phases_of`): its tree goes on where the earlier run ends, with a fresh optimizer, and all
runs that have the earlier one in common share its steps. So do runs that go in rounds, each of which is a
phase; their steps are counted, and judged, through all rounds. Runs of several trunks still share what the
untrained model does, in this order of agreement:

    kin                the same model, trainer, engine, prompts, sampling and seed draw the same rollouts at
                       step 0 (:func:`rollout_key`)
    kin + objective    the same gradient at step 0; the step differs only in the optimizer
                       (:func:`gradient_key`)
    base evaluation    one a (model, engine, benchmark), sampled verdicts also per seed
                       (:func:`base_evaluation_key`)

**What a trainer does with it.** Its ``run_group`` (``trainers.protocol.GroupTrainer`` is the contract) takes
the specs of one batch, kin as far as possible (:func:`sweeps.sharing.batches.batches`). It calls
:func:`plan_stages` and walks each tree depth first::

    def walk(stage):
        for runs in stage.evaluations.get(0, ()):       # at a root only: the untrained model
            record its verdicts for runs
        for number, lr in stage.steps():                # number of the optimizer step, from 1
            train one step at lr                        # each of stage.runs records it
            if it diverged: yield stage.runs as diverged and return
            for runs in stage.evaluations.get(number, ()):
                judge once by the eval of runs[0]       # each of runs records it
        yield stage.ends
        if len(stage.children) > 1:
            state = capture()                           # weights, masters, moments, scaler, counters, drafts
        for i, child in enumerate(stage.children):
            if i: restore(state)
            if child.phase > stage.phase:
                carry the weights alone over to a fresh optimizer
            walk(child)

with a hot reset to the base weights before each root, step-0 rollouts and gradients remembered under their
keys (the latest one of each is enough, for stages come ordered by key), and base evaluations under theirs.
Each run's timings are those of its own path, shared steps counted in full, so that the cost model reads them
as it reads unshared runs.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from sweeps.sharing.schedules import Rate, rates
from sweeps.spec import EvalSpec, RunSpec, canonical_json, group_to_dict, phases_of

KIN_GROUPS = ("model", "trainer", "engine", "resources", "example", "data", "curate", "sampling", "init")
"""Groups that must agree, with the seed, for step-0 rollouts to be the same bits; layout is among them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """A stretch of training that the same runs pass, up to where some end or part ways."""

    first_step: int
    """Number of its first optimizer step; 1 where a run begins."""
    lrs: tuple[Rate, ...]
    """Learning rate of each of its steps, or how it is found."""
    runs: tuple[int, ...]
    """Runs that pass it, as positions in the sequence of specs; the first one's phase stands for all."""
    phase: int = 0
    """Which of their phases it belongs to, the earliest being 0."""
    ends: tuple[int, ...] = ()
    """Runs whose last step is the stage's last."""
    evaluations: Mapping[int, tuple[tuple[int, ...], ...]] = field(default_factory=dict)
    """Step number to the runs evaluated after it, grouped by equal evaluation settings. Step 0 is at a root
    only.
    """
    children: tuple[Stage, ...] = ()
    """What follows, from the same state."""

    def steps(self) -> Iterator[tuple[int, Rate]]:
        """Yield (number of the optimizer step, its learning rate)."""
        yield from enumerate(self.lrs, self.first_step)

    @property
    def num_steps(self) -> int:
        """Optimizer steps of this stage and all that follow it."""
        return len(self.lrs) + sum(child.num_steps for child in self.children)


def learning_rates(spec: RunSpec) -> tuple[Rate, ...]:
    """Return the learning rate of each optimizer step of a run's last phase, exactly as the trainer computes
    it; shape (own steps,).
    """
    return rates(spec.schedule, spec.optim.lr, spec.own_steps)


TEXTS_REMEMBERED = 4096
"""Groups of runs whose text is kept: the runs of one batch mostly hold the same few objects."""

_texts: OrderedDict[int, tuple[Any, str]] = OrderedDict()


def group_text(group: Any) -> str:
    """A group of a specification as text, remembered for the object: it is frozen, and held here so that no
    other takes its place.
    """
    known = _texts.get(id(group))
    if known is None:
        known = _texts[id(group)] = group, canonical_json(group_to_dict(group))
        if len(_texts) > TEXTS_REMEMBERED:
            _texts.popitem(last=False)
    return known[1]


def rollout_key(spec: RunSpec) -> str:
    """Return the text under which step-0 rollouts are shared."""
    parts = [group_text(getattr(spec, group)) for group in KIN_GROUPS]
    objective = spec.objective
    if "shared_noise" in objective.defects:
        parts.append(canonical_json([objective.compat_world_size, objective.compat_micro_batch]))
    return "\n".join([*parts, str(spec.seed)])


def _shared_keys(spec: RunSpec) -> tuple[str, str, str]:
    """Rollout, gradient and trunk key, each of which continues the one before."""
    rollout = rollout_key(spec)
    gradient = f"{rollout}\n{group_text(spec.objective)}"
    without_rate = {k: v for k, v in group_to_dict(spec.optim).items() if k != "lr"}
    return rollout, gradient, f"{gradient}\n{canonical_json(without_rate)}"


def gradient_key(spec: RunSpec) -> str:
    """Return the text under which the gradient at step 0 is shared: rollouts and objective."""
    return f"{rollout_key(spec)}\n{group_text(spec.objective)}"


def trunk_key(spec: RunSpec) -> str:
    """Return the text that must agree, beside the learning rates, for optimizer steps to be shared."""
    return _shared_keys(spec)[2]


def start_key(spec: RunSpec) -> str:
    """Return a digest of what decides the weights that a run's last phase trains from; empty for the base
    model's own.
    """
    earlier = () if spec.curate.is_on and spec.curate.from_ == "base" else phases_of(spec)[:-1]
    trained = [f"{trunk_key(phase)}\n{canonical_json(list(learning_rates(phase)))}" for phase in earlier]
    text = "\n".join([*spec.init.runs, *trained])
    return hashlib.sha256(text.encode()).hexdigest() if text else ""


def base_evaluation_key(spec: RunSpec, sampled: bool) -> str:
    """Return the text under which the untrained model's verdicts are shared; sampled ones differ by seed."""
    parts = [group_text(getattr(spec, group)) for group in ("model", "engine", "resources")]
    return "\n".join([*parts, evaluation_key(spec.eval), str(spec.seed if sampled else None)])


@lru_cache(maxsize=256)
def evaluation_key(spec: EvalSpec) -> str:
    """Return the text of evaluation settings apart from when they are used."""
    return canonical_json(group_to_dict(dataclasses.replace(spec, steps=())))


# Trees of a batch of runs


@dataclass(slots=True)
class _Node:
    """A state of training while the tree is built."""

    steps_before: int = 0
    """Optimizer steps taken before, of rounds and their earlier ones; counted at the beginning of a phase."""
    passing: list[int] = field(default_factory=list)
    ending: list[int] = field(default_factory=list)
    evaluated: dict[str, list[int]] = field(default_factory=dict)
    next: dict[Rate, _Node] = field(default_factory=dict)
    phases: _Roots = field(default_factory=dict)


_Roots = dict[str, dict[str, dict[str, _Node]]]
"""First states of phases, by rollout, gradient and trunk key, so that equal keys are neighbours."""


def plan_stages(specs: Sequence[RunSpec]) -> tuple[Stage, ...]:
    """Return the trees of stages of ``specs``, ordered so that equal rollout and gradient keys are
    neighbours.
    """
    trunks: _Roots = {}
    for i, spec in enumerate(specs):
        roots, paths = trunks, []
        for phase in phases_of(spec):
            paths.append(_path(roots, phase))
            roots = paths[-1][-1].phases
        for node in (node for path in paths for node in path):
            node.passing.append(i)
        due, judged = frozenset(spec.eval_steps), evaluation_key(spec.eval)
        own = paths[-spec.curate.num_rounds :]
        states = [paths[0][0], *(node for path in own for node in path[1:])]
        for number, node in enumerate(states):  # step 0 is the untrained model
            if number in due:
                node.evaluated.setdefault(judged, []).append(i)
        paths[-1][-1].ending.append(i)
    return tuple(_stages(trunks, 0))


def _path(roots: _Roots, spec: RunSpec) -> list[_Node]:
    """The states that one phase goes through, from before its first step."""
    rollout, gradient, trunk = _shared_keys(spec)
    begin = _Node(steps_before=spec.steps_before)
    path = [roots.setdefault(rollout, {}).setdefault(gradient, {}).setdefault(trunk, begin)]
    for lr in learning_rates(spec):
        path.append(path[-1].next.setdefault(lr, _Node()))
    return path


def _stages(roots: _Roots, phase: int) -> Iterator[Stage]:
    for kin in roots.values():
        for same_gradient in kin.values():
            for root in same_gradient.values():
                for lr, child in root.next.items():
                    yield _stage(child, lr, root.steps_before + 1, root, phase)


def _stage(node: _Node, lr: Rate, number: int, root: _Node, phase: int) -> Stage:
    runs, lrs, evaluations = tuple(node.passing), [lr], {}
    first = number
    if number == 1 and phase == 0:
        through = set(node.passing)  # the untrained model is judged once for all roots of a trunk
        base = [tuple(r for r in group if r in through) for group in root.evaluated.values()]
        evaluations[0] = tuple(group for group in base if group)
    while True:
        if node.evaluated:
            evaluations[number] = tuple(tuple(group) for group in node.evaluated.values())
        if node.ending or node.phases or len(node.next) != 1:
            break
        [(lr, node)] = node.next.items()
        lrs.append(lr)
        number += 1
    return Stage(
        first_step=first,
        lrs=tuple(lrs),
        runs=runs,
        phase=phase,
        ends=tuple(node.ending),
        evaluations={k: v for k, v in evaluations.items() if v},
        children=(
            *(_stage(child, lr, number + 1, root, phase) for lr, child in node.next.items()),
            *_stages(node.phases, phase + 1),
        ),
    )
