"""One run, from its base model to its verdicts: rollouts, objective, optimizer step, evaluation.

    emsweep launch sweep=quickstart --pool inline

The page to read is :meth:`_Group._stage`. A worker calls :meth:`PolicyTrainer.run_group` many times;
models, engines, benchmarks and the base model's evaluations stay warm in between. Within a group, runs
share every optimizer step on which they agree (:mod:`sweeps.sharing.stages`), those of an earlier run that
they start from included. None of that changes a bit of a result.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from sweeps.sharing.schedules import ProbedRate
from sweeps.sharing.stages import Stage, plan_stages, start_key
from sweeps.spec import RunSpec, phases_of
from trainers.decoding.vllm import require_vllm
from trainers.engine.checkpoint import (
    TrainingState,
    drop_states,
    kept_steps,
    load_state,
    load_weights_of,
    save_state,
    save_weights,
)
from trainers.engine.gang import Gang
from trainers.engine.pool import EnginePool
from trainers.engine.run_layout import layout_of, rows_at_once
from trainers.evaluation.eval_cache import EvalCache
from trainers.model.base_model import load_base
from trainers.model.download import fetched
from trainers.protocol import Cancelled, Outcome, RunContext, RunResult, WorkerContext
from trainers.step.curation import Mixture, mixture_from_json
from trainers.step.decode_rows import DecodeRows, as_begun
from trainers.step.experience import Experience
from trainers.step.forward import without_gradients
from trainers.step.group_steps import GroupSteps
from trainers.step.logit_stats import measure_logits
from trainers.step.prompts import Prompts
from trainers.step.reference import References
from trainers.step.rewards import Rewards
from trainers.step.run_recorder import RunRecorder, Stopwatch
from trainers.step.update import starts_afresh, update_due


class PolicyTrainer:
    """Trainer of every objective, on a DeepSpeed engine."""

    def __init__(self, context: WorkerContext) -> None:
        self.gang = Gang(context)
        self.engines = EnginePool(self.gang)
        self.load_base = lru_cache(maxsize=8)(load_base)
        self.eval_cache = EvalCache(self.load_base, self.gang)
        self.rewards = Rewards(self.gang)
        self.references = References(self.gang)
        self.rows = DecodeRows(self.gang, self.load_base, self.eval_cache)

    def run(self, spec: RunSpec, context: RunContext) -> RunResult:
        """Train and judge one run: a group of one; see :class:`trainers.protocol.Trainer`."""
        [(_, outcome)] = self.run_group([spec], [context])
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def run_group(
        self, specs: Sequence[RunSpec], contexts: Sequence[RunContext]
    ) -> Iterator[tuple[int, Outcome]]:
        """Train and judge several runs, sharing what they have in common; see
        :class:`trainers.protocol.GroupTrainer`. Runs that save training states are not shared.
        """
        together = [i for i, spec in enumerate(specs) if not spec.resources.save_every_steps]
        alone = [[i] for i, spec in enumerate(specs) if spec.resources.save_every_steps]
        for members in filter(None, [together, *alone]):
            group = _Group(self, [specs[i] for i in members], [contexts[i] for i in members])
            for position, outcome in group.outcomes():
                yield members[position], outcome

    def close(self) -> None:
        self.engines.close()
        self.eval_cache.close()
        self.rewards.close()


class _Group(GroupSteps):
    """Runs trained together in one walk over their stages."""

    def __init__(
        self, trainer: PolicyTrainer, specs: Sequence[RunSpec], contexts: Sequence[RunContext]
    ) -> None:
        super().__init__(specs, contexts, trainer.gang, trainer.rewards, trainer.references)
        self._trainer, self._eval_cache = trainer, trainer.eval_cache
        self._resumed: TrainingState | None = None
        with fetched(specs, contexts[0].heartbeat):
            self._records = [RunRecorder(spec, trainer.load_base(spec.model)) for spec in specs]
        self._watch = Stopwatch()

    def outcomes(self) -> Iterator[tuple[int, RunResult | Cancelled]]:
        """Yield every run's position and outcome, trees of stages one after the other."""
        for root in plan_stages(self._specs):
            spec = self._phase_of(root)
            if spec.engine.decoder == "vllm":
                require_vllm()
            self._begin(spec)
            self._settle_rows(root)
            self._took("setup_s", root.runs)
            try:
                done = self._resume(root)
                if not done:
                    self._evaluate(root, 0)
                    self._start_from_kept(spec)
                yield from self._stage(root, done)
            except BaseException:
                # Half a step may hang in the engine's buckets and hooks.
                self._trainer.engines.discard(self._at)
                raise

    def _stage(
        self,
        stage: Stage,
        done: int,
        experience: Experience | None = None,
        mixture: Mixture | None = None,
        lr: float | None = None,
    ) -> Iterator[tuple[int, RunResult | Cancelled]]:
        """Walk a stage and all that follows it.

        Args:
            stage: Where to begin; the engine stands at its first step, or ``done`` steps further.
            done: Optimizer steps of its own that a killed attempt had taken.
            experience: What the step before trained on, for objectives that use it more than once.
            mixture: What the stage's round trains on, once that is settled.
            lr: The learning rate of the step before, where rates are tried.
        """
        spec = self._phase_of(stage)
        for step, rate in stage.steps():
            lr = rate if isinstance(rate, float) else lr
            yield from self._call_off(stage)
            live = self._live(stage)
            if not live:
                return
            own = [run for run in live if self._is_own(stage, run)]
            if done and (step <= done or not own):
                continue
            if spec.curate.is_on and mixture is None:
                mixture = self._mixture(spec, done)
            prompts = mixture.at(step) if mixture else self._prompts.at(step)
            if prompts is None:
                assert mixture is not None
                assert lr is not None, "rates are not tried in rounds"
                self._took("rollout_s", live, stage)
                for run in own:
                    self._records[run].skipped(step, lr, mixture.measured(step))
            elif update_due(spec, step):
                context, experience = self._gathered(stage, step, prompts, experience, mixture)
                tried: Mapping[str, float] = {}
                if isinstance(rate, ProbedRate) and rate.is_due(step - spec.steps_before - 1):
                    found = self._probed(stage, step, rate, context, experience)
                    if found is None:
                        yield from self._call_off(stage)
                        return
                    lr, tried = found.lr, found.measured
                elif lr is None:  # a killed attempt had found it
                    lr = self._records[live[0]].lr_of(step - 1)
                update = self._steps.update(context, step, experience, lr)
                self._took("train_s", live, stage)
                for run in own:
                    drawn = experience.rollouts
                    measured = {**experience.measured, **prompts.measured, **tried}
                    measured |= mixture.measured(step) if mixture else {}
                    self._records[run].stepped(step, drawn, update, lr, measured, prompts.numbers)
                if not update.finite:
                    yield from self._finish(live, "diverged")
                    return
            self._evaluate(stage, step)
            self._save(own, step, mixture)
            for run in live:
                self._contexts[run].heartbeat(f"step {step} of {spec.steps}")

        yield from self._finish([run for run in stage.ends if run not in self._gone], "done")
        state = self._engine.capture() if len(stage.children) > 1 else None
        for number, child in enumerate(stage.children):
            if number and state is not None:
                if self._at != self._phase_of(stage):
                    self._begin(self._phase_of(stage))
                self._engine.restore(state)
            if child.phase > stage.phase:
                self._carry_over(child, done)
                yield from self._stage(child, done)
            else:
                yield from self._stage(child, done, experience, mixture, lr)

    def _begin(self, spec: RunSpec) -> None:
        """Put the engine into the base state of a phase."""
        self._at = spec
        self._base = self._trainer.load_base(spec.model)
        self._prompts = Prompts(spec, self._base)
        self._start = start_key(spec)
        self._engine = self._trainer.engines.acquire(spec)

    def _settle_rows(self, root: Stage) -> None:
        """Decode fewer rows at once where not all fit beside the engine."""
        settled = self._trainer.rows.settled([self._specs[run] for run in root.runs], self._engine.module)
        for run, spec in zip(root.runs, settled, strict=True):
            self._specs[run], self._phases[run] = spec, phases_of(spec)
        self._at = self._phase_of(root)

    def _mixture(self, spec: RunSpec, done: int) -> Mixture:
        """What a round trains on, and the engine at the weights from which it does."""
        if self._resumed is not None and spec.steps_before < done:
            return mixture_from_json(spec, self._resumed.progress["mixture"])
        mixture = self._steps.round(self._train_context(spec, (), ()))
        if spec.curate.from_ == "base" and spec.steps_before:
            self._begin(spec)
            self._start_from_kept(spec)
        return mixture

    def _carry_over(self, stage: Stage, done: int) -> None:
        """Enter a later phase: the weights alone go on, to a fresh optimizer."""
        phase = self._phase_of(stage)
        is_reached = not done or (self._is_own(stage, stage.runs[0]) and done <= phase.steps_before)
        weights = self._engine.full_weights() if is_reached else None
        self._begin(phase)
        if weights is not None:
            self._engine.load(weights)
            self._mark_start(phase)
        elif self._resumed is not None and self._holds(stage, done):
            self._engine.restore(self._resumed.engine)
        self._took("setup_s", self._live(stage))

    def _start_from_kept(self, spec: RunSpec) -> None:
        """Take the weights of a run of another sweep, if training starts from one."""
        for run_id, folder in zip(spec.init.runs, spec.init.folders, strict=True):
            self._engine.load(load_weights_of(run_id, Path(folder)))
        self._mark_start(spec)

    def _mark_start(self, spec: RunSpec) -> None:
        """Keep the weights that a phase trains from, where those are its reference and no base model."""
        if spec.objective.reference == "start" and (key := start_key(spec)):
            self._engine.mark_start(key)

    def _holds(self, stage: Stage, done: int) -> bool:
        """Whether a killed attempt that had taken ``done`` steps of its own ended in the stage's phase."""
        phase = self._phase_of(stage)
        return self._is_own(stage, stage.runs[0]) and phase.steps_before < done <= phase.steps

    def _evaluate(self, stage: Stage, step: int) -> None:
        """Judge the model once for each set of runs that asks for the same evaluation now."""
        for asking in stage.evaluations.get(step, ()):
            live = [run for run in asking if run not in self._gone]
            if not live:
                continue
            spec = self._specs[live[0]]
            with self._engine.result_weights(), without_gradients(spec):
                evaluations = (
                    self._eval_cache.tuned(spec, self._engine.module, step)
                    if step
                    else self._eval_cache.base(spec, self._engine.module)
                )
            self._took("eval_s", live)
            for run in live:
                row = self._records[run].evaluated(step, evaluations)
                if row and step < self._specs[run].steps:  # after the last one the result follows
                    self._contexts[run].report(step, **row)

    def _save(self, live: Sequence[int], step: int, mixture: Mixture | None) -> None:
        """Write weights that the retention policy keeps, and the state that a killed run resumes from."""
        for run in live:
            spec, folder = self._specs[run], self._contexts[run].checkpoint_dir
            if folder and step in kept_steps(spec):
                save_weights(folder, self._engine, spec, self._base, step, self._gang)
                self._took("checkpoint_s", [run])
            every = spec.resources.save_every_steps
            due = every and step % every == 0 and starts_afresh(spec, step + 1)
            if folder and due and step < spec.steps:
                progress = self._records[run].to_json() | {"rows_at_once": rows_at_once(spec)}
                if mixture:
                    progress |= {"mixture": mixture.to_json()}
                state = TrainingState(step=step, engine=self._engine.capture(), progress=progress)
                save_state(folder, state, spec.run_id, self._gang)
                self._took("checkpoint_s", [run])

    def _resume(self, root: Stage) -> int:
        """Put back what a killed attempt had reached, if it saved that; return the optimizer steps done."""
        [run, *others] = root.runs
        if others or not self._specs[run].resources.save_every_steps:
            return 0
        state = load_state(self._contexts[run].checkpoint_dir, self._specs[run].run_id, self._gang)
        if state is None:
            return 0
        self._resumed = state
        if self._holds(root, state.step):
            self._engine.restore(state.engine)
        self._specs[run] = as_begun(self._specs[run], state.progress)
        self._phases[run] = phases_of(self._specs[run])
        self._records[run].restore(state.progress)
        return state.step

    def _finish(self, runs: Sequence[int], outcome: str) -> Iterator[tuple[int, RunResult]]:
        for run in runs:
            spec, record = self._specs[run], self._records[run]
            if outcome == "done" and spec.eval.logit_stats and record.rollouts is not None:
                first = self._prompts.at(1)
                texts = self._base, first.ids, record.first_rollouts
                with self._engine.result_weights(), without_gradients(spec):
                    record.logit_stats = measure_logits(self._engine, first.of_step(spec), *texts, self._gang)
                self._took("logits_s", [run])
            drop_states(self._contexts[run].checkpoint_dir, self._gang)
            self._gone.add(run)
            yield run, record.result(outcome, layout_of(spec, self._gang))
