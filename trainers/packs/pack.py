"""One pack, from its base model to its members' verdicts; the page to read is :meth:`Pack.outcomes`.

Every run is a member of one architecture's stack: rollouts, gradients and optimizer steps of all members are
computed together, and each has the bits that it has alone. Members come and go: one ends early, diverges or
is called off, and its slot is passed over; two runs that share a trunk are one member until they part.

What goes wrong for one member (a prompt, a report, a grader) ends its runs alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from sweeps.sharing.stages import Stage, gradient_key, plan_stages
from sweeps.spec import RunSpec
from trainers.engine.checkpoint import kept_steps, load_weights_of, write_weights
from trainers.engine.run_layout import layout_of
from trainers.evaluation.eval_cache import Judge
from trainers.packs.engine import PackEngine
from trainers.packs.gathering import Gathering
from trainers.packs.gradients import gradients_of
from trainers.packs.members import Member
from trainers.packs.optimizer import Due
from trainers.packs.tokens import TILE
from trainers.packs.warm import Warm
from trainers.protocol import Cancelled, Outcome, RunContext
from trainers.step.run_recorder import RunRecorder, Stopwatch
from trainers.step.update import Update


class Pack:
    """Runs trained together, from their base model to their verdicts."""

    def __init__(
        self,
        warm: Warm,
        engine: PackEngine,
        specs: Sequence[RunSpec],
        contexts: Sequence[RunContext],
        width: int,
    ) -> None:
        self._warm, self._engine, self._stack = warm, engine, engine.stack
        # Each by itself: a run's rows do not depend on who its mates are.
        self._specs = [settled for spec in specs for settled in warm.rows.settled([spec], engine.model)]
        self._contexts, self._width = contexts, width
        self._base = warm.load_base(specs[0].model)
        self._records = [RunRecorder(spec, self._base) for spec in specs]
        self._watch = Stopwatch()
        self._members: list[Member] = []
        self._outcomes: list[tuple[int, Outcome]] = []
        self._gathering = Gathering(warm, self._stack, self._base, self._apart)

    def outcomes(self) -> Iterator[tuple[int, Outcome]]:
        """Yield every run's position and outcome, as soon as it is known."""
        for root in plan_stages(self._specs):
            self._apart(list(root.runs), partial(self._begin, root))
        self._took("setup_s", self._members)
        for member in list(self._members):
            self._apart(member.runs, partial(self._evaluate, member, 0))
        while True:
            self._call_off()
            yield from self._known()
            if not self._members:
                return
            self._gathering.gather([m for m in self._members if m.begins_afresh])
            self._took("rollout_s", self._members)
            if not self._members:
                continue
            updates = self._update()
            self._took("train_s", self._members)
            for member in list(self._members):
                self._apart(member.runs, partial(self._after, member, updates[member.slot]))

    def _known(self) -> Iterator[tuple[int, Outcome]]:
        while self._outcomes:
            yield self._outcomes.pop(0)

    def _apart(self, runs: list[int], work: Callable[[], None]) -> None:
        """Do what concerns some runs alone; an exception is their outcome and nobody else's."""
        try:
            work()
        except Exception as error:
            self._end(runs, error)

    def _end(self, runs: Sequence[int], *outcomes: Outcome) -> None:
        """Runs have an outcome each, or all the same one; a member without runs leaves."""
        ending = list(runs)
        for number, run in enumerate(ending):
            self._outcomes.append((run, outcomes[number % len(outcomes)]))
        for member in self._members:
            member.runs = [run for run in member.runs if run not in ending]
        self._members = [member for member in self._members if member.runs]

    def _begin(self, root: Stage) -> None:
        """Give the stage's runs a slot in the base model's state."""
        spec = self._specs[root.runs[0]]
        prompts = self._warm.prompts_of(spec)
        slot = self._free_slot()
        self._engine.start(slot, spec)
        for run_id, folder in zip(spec.init.runs, spec.init.folders, strict=True):
            self._stack.load(slot, load_weights_of(run_id, Path(folder)))
        self._enter(Member(slot=slot, spec=spec, prompts=prompts, stage=root, runs=list(root.runs)))

    def _free_slot(self) -> int:
        taken = {member.slot for member in self._members}
        return next(slot for slot in range(self._stack.width) if slot not in taken)

    def _enter(self, member: Member) -> None:
        self._members.append(member)
        self._members.sort(key=lambda m: m.slot)

    def _update(self) -> dict[int, Update]:
        """Take one optimizer step of every member; at the base model, one gradient serves all that agree."""
        source: dict[int, int] = {}
        first: dict[str, int] = {}
        for m in self._members:
            source[m.slot] = first.setdefault(gradient_key(m.of_step), m.slot) if m.step == 1 else m.slot
        training = {
            m.slot: (m.experience, m.spec.objective)
            for m in self._members
            if source[m.slot] == m.slot and m.experience is not None
        }
        experience = {m.slot: m.experience for m in self._members}
        updates: dict[int, Update] = {}
        for seen in gradients_of(self._engine, training, self._base.pad_id):
            held = {slot: row for row, slot in enumerate(seen)}
            stepping = [m for m in self._members if source[m.slot] in held]
            norms = self._engine.step(
                {m.slot: Due(optim=m.spec.optim, lr=m.lr, held=held[source[m.slot]]) for m in stepping}
            )
            for m in stepping:
                m.experience = experience[source[m.slot]]  # which remembers the policy that drew it
                updates[m.slot] = Update(**vars(seen[source[m.slot]]), grad_norm=norms[m.slot])
        return updates

    def _after(self, member: Member, update: Update) -> None:
        """What follows a member's step: records, verdicts, weights, the end of its stage."""
        step, lr = member.step, member.lr
        experience, now = member.experience, member.now
        assert experience is not None
        assert now is not None
        measured = {**experience.measured, **now.measured}
        for run in member.runs:
            self._records[run].stepped(step, experience.rollouts, update, lr, measured, now.numbers)
        if not update.finite:
            self._finish(member.runs, "diverged")
            return
        member.taken += 1
        self._evaluate(member, step)
        self._save(member, step)
        for run in member.runs:
            self._contexts[run].heartbeat(f"step {step} of {self._specs[run].steps}")
        if member.is_through:
            self._go_on(member)

    def _go_on(self, member: Member) -> None:
        """End the runs whose last stage this was, and give what follows it slots of its own."""
        stage, living = member.stage, set(member.runs)
        followers = [(child, [run for run in child.runs if run in living]) for child in stage.children]
        followers = [(child, runs) for child, runs in followers if runs]
        self._finish([run for run in stage.ends if run in living], "done")
        for number, (child, runs) in enumerate(followers):
            heir = dataclasses.replace(member, stage=child, runs=runs, spec=self._specs[runs[0]], taken=0)
            if number:
                heir.slot = self._free_slot()
                self._engine.copy(member.slot, heir.slot)
                self._enter(heir)
            else:
                self._members[self._members.index(member)] = heir

    def _evaluate(self, member: Member, step: int) -> None:
        """Judge the member once for each set of runs that asks for the same evaluation now."""
        for asking in member.stage.evaluations.get(step, ()):
            live = [run for run in asking if run in member.runs]
            if not live:
                continue
            spec, cache = self._specs[live[0]], self._warm.eval_cache
            if step:
                evaluations = cache.tuned_by(spec, self._judge(spec, member.slot, step))
            else:
                evaluations = cache.base_by(spec, self._judge(spec, None, 0))
            seconds = self._watch.lap()
            for run in live:
                self._records[run].took("eval_s", seconds)
                row = self._records[run].evaluated(step, evaluations)
                if row and step < self._specs[run].steps:  # after the last one the result follows
                    self._contexts[run].report(step, **row)

    def _judge(self, spec: RunSpec, slot: int | None, step: int) -> Judge:
        """What judges a slot's member, or the untrained model."""
        stack, rows = self._stack, spec.engine.eval_rows

        return lambda benchmark, settings, seed: benchmark.evaluate_by(
            partial(self._gathering.decode, stack.matrices(slot)),
            stack.shape.vocabulary,
            settings,
            step=step,
            seed=seed,
            gang=self._warm.gang,
            rows=rows,
        )

    def _save(self, member: Member, step: int) -> None:
        """Write weights that the retention policy keeps."""
        for run in member.runs:
            spec, folder = self._specs[run], self._contexts[run].checkpoint_dir
            if folder and step in kept_steps(spec):
                weights = self._stack.named(member.slot)
                write_weights(folder, weights, self._engine.model, spec, self._base, step)
                self._records[run].took("checkpoint_s", self._watch.lap())

    def _finish(self, runs: Sequence[int], outcome: str) -> None:
        results = []
        for run in runs:
            spec = self._specs[run]
            layout = (
                layout_of(spec, self._warm.world)
                | {"pack": self._width, "pack_tile": TILE}
                | self._stack.layout
            )
            results.append(self._records[run].result(outcome, layout))
        if results:
            self._end(runs, *results)

    def _call_off(self) -> None:
        called = [r for m in self._members for r in m.runs if self._contexts[r].cancelled()]
        if called:
            self._end(called, *[Cancelled(self._specs[run].run_id) for run in called])

    def _took(self, part: str, members: Sequence[Member]) -> None:
        """Share the time since the last call out to members; each of a member's runs bears its member's."""
        seconds = self._watch.lap() / max(1, len(members))
        for member in members:
            for run in member.runs:
                self._records[run].took(part, seconds)
