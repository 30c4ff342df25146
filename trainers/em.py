"""One run of one-shot entropy minimization: rollouts, objective, optimizer step, evaluation.

    emsweep launch sweep=quickstart --pool inline

The page to read is :meth:`EntropyMinimization.run`. A worker calls it many times; models, engines,
benchmarks and the base model's evaluations stay warm in between, and none of that changes a bit of the
result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import lru_cache

import torch
from sweeps.schedules import multiplier

from sweeps.spec import EvalSpec, ModelSpec, RunSpec
from trainers.batch import StepBatch, step_batch
from trainers.compat import defects_of, updates_by
from trainers.engine import Engine, EnginePool
from trainers.evaluate import Benchmark, settings_of
from trainers.examples import encode, limit_length, render
from trainers.gang import Gang
from trainers.layout import layout_of
from trainers.model import BaseModel, load_base
from trainers.objectives.entropy import token_entropy, weighted_token_sum
from trainers.protocol import Cancelled, Evaluation, RunContext, RunResult, WorkerContext
from trainers.record import Clock, Recorder, Update
from trainers.rollout import Rollouts, draw_rollouts

BASE_EVALUATIONS_REMEMBERED = 512
"""Evaluations of untrained models kept by a worker: one per (model, benchmark, setting, seed), some
kilobytes each.
"""

OVERFLOWS_TOLERATED = 40
"""Times one fp16 step is taken again at half the loss scale: from 2^16, DeepSpeed's first, to below any
other.
"""


class EntropyMinimization:
    """Trainer of ``objective=em`` (arXiv 2505.20282) on a DeepSpeed engine."""

    def __init__(self, context: WorkerContext) -> None:
        # One intra-op thread: sums are then added up in one order, and runs fill the machine's cores instead.
        torch.set_num_threads(1)
        self._gang = Gang(context)
        self._engines = EnginePool(self._gang)
        self._base = lru_cache(maxsize=8)(load_base)
        self._benchmark = lru_cache(maxsize=8)(self._load_benchmark)
        self._base_evaluations: dict[tuple, Evaluation] = {}

    def run(self, spec: RunSpec, context: RunContext) -> RunResult:
        """Train and judge one run; see :class:`trainers.protocol.Trainer`."""
        clock = Clock()
        base = self._base(spec.model)
        prompts = encode_prompts(spec, base)
        engine = self._engines.acquire(spec)
        clock.lap("setup_s")
        record = Recorder(spec, base)
        rollouts: Rollouts | None = None
        try:
            record.evaluated(0, self._evaluate_base(spec, engine))
            clock.lap("eval_s")
            for step in range(1, spec.steps + 1):
                if context.cancelled():
                    raise Cancelled(spec.run_id)
                if update_due(spec, step):
                    with _no_grad(spec):
                        rollouts = draw_rollouts(
                            engine.module,
                            spec,
                            base,
                            prompts,
                            step=step - 1,
                            gang=self._gang,
                            drafts=rollouts,
                        )
                    clock.lap("rollout_s")
                    lr = spec.optim.lr * multiplier(spec.schedule, step - 1, spec.steps)
                    update = self._update(spec, base, engine, prompts, rollouts, lr)
                    record.stepped(step, rollouts, update, lr)
                    clock.lap("train_s")
                    if not update.finite:
                        return record.result("diverged", layout_of(spec, self._gang), clock)
                if step in spec.eval_steps:
                    record.evaluated(step, self._evaluate(spec, engine, step))
                    clock.lap("eval_s")
                context.heartbeat(f"step {step} of {spec.steps}")
        except BaseException:
            self._engines.discard(spec)
            raise
        return record.result("done", layout_of(spec, self._gang), clock)

    def close(self) -> None:
        """Free engines and grading processes."""
        self._engines.close()
        self._benchmark.cache_clear()

    def _update(
        self,
        spec: RunSpec,
        base: BaseModel,
        engine: Engine,
        prompts: Sequence[Sequence[int]],
        rollouts: Rollouts,
        lr: float,
    ) -> Update:
        """One optimizer step on the token-mean entropy of the rollouts."""
        batch = step_batch(
            rollouts,
            prompts,
            size=spec.engine.micro_batch,
            rank=self._gang.rank,
            world_size=self._gang.world_size,
            base=base,
            device=self._gang.device,
            defects=defects_of(spec.objective),
        )
        for _ in range(OVERFLOWS_TOLERATED):
            loss, entropy_nats = self._accumulate(spec, engine, batch)
            grad_norm = engine.step(lr)
            # A step is an update: where fp16 overflowed, the same step is taken again at the lowered scale.
            if not engine.overflowed or not math.isfinite(loss):
                break
        return Update(loss=loss, entropy_nats=entropy_nats, grad_norm=grad_norm)

    def _accumulate(self, spec: RunSpec, engine: Engine, batch: StepBatch) -> tuple[float, float]:
        """Accumulate the objective's gradient; return the objective and the entropy at temperature 1, in
        nats.
        """
        sums = torch.zeros(2, dtype=torch.float64, device=self._gang.device)
        for some in batch.micro_batches:
            logits_BKV = engine.forward(
                input_ids=some.ids_BT, use_cache=False, logits_to_keep=some.num_logits
            ).logits
            with torch.no_grad():
                plain_BK = token_entropy(logits_BKV)
            entropy_BK = token_entropy(logits_BKV, spec.objective.temperature)
            loss = weighted_token_sum(entropy_BK, some.mask_BK, some.weight_B) / batch.num_tokens
            sums[0] += loss.detach()
            sums[1] += weighted_token_sum(plain_BK, some.mask_BK, some.weight_B) / batch.num_tokens
            engine.backward(loss)
        loss_sum, entropy_sum = self._gang.sum(sums).tolist()
        return loss_sum, entropy_sum

    def _load_benchmark(self, spec: EvalSpec, model: ModelSpec) -> Benchmark:
        return Benchmark(spec, self._base(model))

    def _evaluate(self, spec: RunSpec, engine: Engine, step: int) -> list[Evaluation]:
        """Judge the model under all settings in one pass: greedy and sampled rows share prefixes."""
        benchmark = self._benchmark(spec.eval, spec.model)
        with _no_grad(spec):
            return benchmark.evaluate(
                engine.module, settings_of(spec.eval), step=step, seed=spec.seed, gang=self._gang
            )

    def _evaluate_base(self, spec: RunSpec, engine: Engine) -> list[Evaluation]:
        """Judge the untrained model, each setting by itself so that a remembered verdict equals a fresh one
        bit for bit.
        """
        if 0 not in spec.eval_steps:
            return []
        benchmark = self._benchmark(spec.eval, spec.model)
        found = []
        for setting in settings_of(spec.eval):
            seed = spec.seed if setting.temperature else 0
            key = (spec.model, spec.eval, spec.engine, setting, seed)
            if key not in self._base_evaluations:
                with _no_grad(spec):
                    [fresh] = benchmark.evaluate(engine.module, [setting], step=0, seed=seed, gang=self._gang)
                if len(self._base_evaluations) == BASE_EVALUATIONS_REMEMBERED:
                    self._base_evaluations.pop(next(iter(self._base_evaluations)))
                self._base_evaluations[key] = fresh
            found.append(self._base_evaluations[key])
        return found


def update_due(spec: RunSpec, step: int) -> bool:
    """Whether ``step`` updates the weights: always, unless the published trainer's step count is
    reproduced.
    """
    defects, total = defects_of(spec.objective), spec.sampling.num_rollouts
    return updates_by(step, total, defects) > updates_by(step - 1, total, defects)


def encode_prompts(spec: RunSpec, base: BaseModel) -> list[list[int]]:
    """Token ids of the run's prompts; raises :class:`~sweeps.spec.SpecError` for one that is too long or
    empty.
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


def _no_grad(spec: RunSpec) -> AbstractContextManager:
    # ZeRO-3 gathers parameters inside the forward; inference tensors among them could not be trained
    # afterwards.
    return torch.no_grad() if spec.engine.zero_stage == 3 else torch.inference_mode()
