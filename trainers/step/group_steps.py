"""The steps of runs that are trained together: whose they are, what one trains on, and at which rate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from sweeps.sharing.schedules import ProbedRate
from sweeps.sharing.stages import Stage
from sweeps.spec import RunSpec, phases_of
from trainers.engine.engine import Engine
from trainers.engine.gang import Gang
from trainers.model.base_model import BaseModel
from trainers.model.target_encoding import GivenSequence
from trainers.protocol import Cancelled, RunContext
from trainers.step.curation import Mixture
from trainers.step.experience import Experience, TrainContext
from trainers.step.probing import Probed, probed
from trainers.step.prompts import Prompts, StepPrompts
from trainers.step.reference import References
from trainers.step.rewards import Rewards
from trainers.step.run_recorder import RunRecorder, Stopwatch
from trainers.step.step0_cache import Steps
from trainers.step.update import starts_afresh


class GroupSteps:
    """Runs trained together, those of them that are left, and the engine where it stands."""

    _records: Sequence[RunRecorder]
    _engine: Engine
    _base: BaseModel
    _prompts: Prompts
    _start: str
    """What decides the weights that the engine's phase trains from."""

    def __init__(
        self,
        specs: Sequence[RunSpec],
        contexts: Sequence[RunContext],
        gang: Gang,
        rewards: Rewards,
        references: References,
    ) -> None:
        self._specs, self._contexts = list(specs), contexts
        self._phases = [phases_of(spec) for spec in specs]
        self._gang, self._rewards, self._references = gang, rewards, references
        self._watch = Stopwatch()
        self._gone: set[int] = set()
        self._steps = Steps(several=len(specs) > 1)

    def _train_context(
        self, spec: RunSpec, prompts: Sequence[Sequence[int]], given: Sequence[GivenSequence]
    ) -> TrainContext:
        """What a step is taken with, once the engine stands at a phase."""
        return TrainContext(
            spec=spec,
            base=self._base,
            prompts=prompts,
            engine=self._engine,
            rewards=self._rewards,
            references=self._references,
            gang=self._gang,
            given=given,
            start=self._start,
        )

    def _gathered(
        self,
        stage: Stage,
        step: int,
        prompts: StepPrompts,
        experience: Experience | None,
        mixture: Mixture | None = None,
    ) -> tuple[TrainContext, Experience]:
        """What a step is taken with, and what it trains on.

        Args:
            experience: What the step before trained on.
        """
        spec, live = self._phase_of(stage), self._live(stage)
        # After the first step, which runs share by its key, only rollouts depend on what rows ask.
        asked = prompts.of_step(spec) if step == 1 or spec.objective.draws_rollouts else spec
        context = self._train_context(asked, prompts.ids, prompts.given)
        if experience is None or starts_afresh(spec, step):
            drafts = experience.rollouts if experience else self._records[live[0]].rollouts
            drafts = drafts if not mixture and self._prompts.are_those_before(step) else None
            experience = self._steps.gather(context, step - 1, drafts)
        self._took("rollout_s", live, stage)
        return context, experience

    def _probed(
        self, stage: Stage, first: int, rate: ProbedRate, context: TrainContext, experience: Experience
    ) -> Probed | None:
        """Try rates on the batches and noise of the steps to come, each from the present state, to which the
        engine returns; ``None`` once all runs are called off.

        Args:
            first: The step that is to be taken at the rate found.
            context: What that step is taken with.
            experience: What it trains on.
        """
        live, here = self._live(stage), (context, experience)

        def loss_of(step: int, lr: float) -> float:
            nonlocal here
            here = (
                (context, experience)
                if step == first
                else self._gathered(stage, step, self._prompts.at(step), here[1])
            )
            update = self._steps.update(here[0], step, here[1], lr)
            self._took("train_s", live, stage)
            for run in live:
                self._contexts[run].heartbeat(f"tries a rate, step {step} of {self._phase_of(stage).steps}")
            return update.loss if update.finite else math.nan

        return probed(
            self._engine, rate, first, loss_of, lambda: all(self._is_called_off(run) for run in live)
        )

    def _is_called_off(self, run: int) -> bool:
        return self._gang.any(self._contexts[run].cancelled())  # ranks hear of it at different moments

    def _call_off(self, stage: Stage) -> Iterator[tuple[int, Cancelled]]:
        for run in self._live(stage):
            if self._is_called_off(run):
                self._gone.add(run)
                yield run, Cancelled(self._specs[run].run_id)

    def _live(self, stage: Stage) -> list[int]:
        return [run for run in stage.runs if run not in self._gone]

    def _phase_of(self, stage: Stage) -> RunSpec:
        return self._phases[stage.runs[0]][stage.phase]

    def _is_own(self, stage: Stage, run: int) -> bool:
        """Whether a stage is of the run's own rounds, and not of a run it starts from."""
        return stage.phase >= len(self._phases[run]) - self._specs[run].curate.num_rounds

    def _took(self, part: str, runs: Sequence[int], stage: Stage | None = None) -> None:
        """Add the time since the last call to a part of runs; ``init_s`` where their own phase is later."""
        seconds = self._watch.lap()
        for run in runs:
            is_own = stage is None or self._is_own(stage, run)
            self._records[run].took(part if is_own else "init_s", seconds)
