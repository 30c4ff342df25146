"""One run of one-shot entropy minimization: rollouts, objective, optimizer step, evaluation.

    emsweep launch sweep=quickstart --pool inline

The page to read is :meth:`EntropyMinimization.run`. A worker calls it many times; models, engines, benchmarks
and the base model's evaluations stay warm in between, and none of that changes a bit of the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import lru_cache

import torch

from sweeps.schedules import multiplier
from sweeps.spec import RunSpec
from trainers.checkpoint import TrainingState, drop_states, kept_steps, load_state, save_state, save_weights
from trainers.engine import Engine, EnginePool
from trainers.examples import encode, limit_length, render
from trainers.gang import Gang
from trainers.judge import Judge
from trainers.layout import layout_of
from trainers.logit_stats import measure_logits
from trainers.model import BaseModel, load_base
from trainers.protocol import Cancelled, RunContext, RunResult, WorkerContext
from trainers.record import Clock, Recorder
from trainers.rollout import draw_rollouts
from trainers.update import update_due, update_policy


class EntropyMinimization:
    """Trainer of ``objective=em`` (arXiv 2505.20282) on a DeepSpeed engine."""

    def __init__(self, context: WorkerContext) -> None:
        # One intra-op thread: sums are then added up in one order, and runs fill the machine's cores instead.
        torch.set_num_threads(1)
        self._gang = Gang(context)
        self._engines = EnginePool(self._gang)
        self._base = lru_cache(maxsize=8)(load_base)
        self._judge = Judge(self._base, self._gang)

    def run(self, spec: RunSpec, context: RunContext) -> RunResult:
        """Train and judge one run; see :class:`trainers.protocol.Trainer`."""
        clock = Clock()
        base = self._base(spec.model)
        prompts = encode_prompts(spec, base)
        engine = self._engines.acquire(spec)
        clock.lap("setup_s")
        try:
            return self._train(spec, context, base, prompts, engine, clock)
        except BaseException:
            # Half a step may hang in the engine's buckets and hooks.
            self._engines.discard(spec)
            raise

    def _train(
        self,
        spec: RunSpec,
        context: RunContext,
        base: BaseModel,
        prompts: Sequence[Sequence[int]],
        engine: Engine,
        clock: Clock,
    ) -> RunResult:
        gang, folder = self._gang, context.checkpoint_dir
        record = Recorder(spec, base)
        done = self._resume(spec, context, engine, record)
        if not done:
            with _no_grad(spec):
                record.evaluated(0, self._judge.base(spec, engine.module))
            clock.lap("eval_s")

        for step in range(done + 1, spec.steps + 1):
            if context.cancelled():
                raise Cancelled(spec.run_id)
            if update_due(spec, step):
                with _no_grad(spec):
                    rollouts = draw_rollouts(
                        engine.module, spec, base, prompts, step=step - 1, gang=gang, drafts=record.rollouts
                    )
                clock.lap("rollout_s")
                lr = spec.optim.lr * multiplier(spec.schedule, step - 1, spec.steps)
                update = update_policy(spec, base, engine, prompts, rollouts, lr, gang)
                record.stepped(step, rollouts, update, lr)
                clock.lap("train_s")
                if not update.finite:
                    return record.result("diverged", layout_of(spec, gang), clock)
            if step in spec.eval_steps:
                with _no_grad(spec):
                    record.evaluated(step, self._judge.tuned(spec, engine.module, step))
                clock.lap("eval_s")
            if folder and step in kept_steps(spec):
                save_weights(folder, engine, spec, base, step, gang)
            if folder and _state_due(spec, step):
                state = TrainingState(step=step, engine=engine.capture(), progress=record.to_json())
                save_state(folder, state, spec.run_id, gang)
                clock.lap("checkpoint_s")
            context.heartbeat(f"step {step} of {spec.steps}")

        if spec.eval.logit_stats:
            with _no_grad(spec):
                record.logit_stats = measure_logits(engine, spec, base, prompts, record.first_rollouts, gang)
            clock.lap("logits_s")
        drop_states(folder, gang)
        return record.result("done", layout_of(spec, gang), clock)

    def _resume(self, spec: RunSpec, context: RunContext, engine: Engine, record: Recorder) -> int:
        """Put back what a killed attempt had reached, if it saved that; return the optimizer steps done."""
        state = load_state(context.checkpoint_dir, spec.run_id, engine, self._gang)
        if state is None:
            return 0
        engine.restore(state.engine)
        record.restore(state.progress)
        return state.step

    def close(self) -> None:
        """Free engines and grading processes."""
        self._engines.close()
        self._judge.close()


def encode_prompts(spec: RunSpec, base: BaseModel) -> list[list[int]]:
    """Token ids of the run's prompts.

    Raises:
        SpecError: for a prompt that is too long or empty.
    """
    example = spec.example
    rendered = [
        render(
            text,
            template=example.template,
            system=example.system,
            format=example.format,
            tokenizer=base.tokenizer,
            key="example",
        )
        for text in example.prompts
    ]
    return [
        limit_length(
            encode(text, base.tokenizer, format=example.format),
            limit=spec.sampling.max_prompt_tokens,
            overlong=spec.sampling.overlong,
        )
        for text in rendered
    ]


def _state_due(spec: RunSpec, step: int) -> bool:
    every = spec.resources.save_every_steps
    return every > 0 and step % every == 0 and step < spec.steps


def _no_grad(spec: RunSpec) -> AbstractContextManager:
    # ZeRO-3 gathers parameters inside the forward; inference tensors among them could not be trained later.
    return torch.no_grad() if spec.engine.zero_stage == 3 else torch.inference_mode()
