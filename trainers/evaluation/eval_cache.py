"""A worker's memory of benchmarks and of what base models scored on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import lru_cache

import torch

from sweeps.sharing.packs import shared_model
from sweeps.spec import ModelSpec, RunSpec
from trainers.engine.gang import Gang
from trainers.evaluation.evaluate import Benchmark, DecodingSetting, settings_of
from trainers.model.base_model import BaseModel
from trainers.protocol import Evaluation

BASE_EVALUATIONS_REMEMBERED = 512
"""Evaluations of untrained models kept: one per (model, benchmark, setting, seed), some kilobytes each."""


Judge = Callable[[Benchmark, Sequence[DecodingSetting], int], list[Evaluation]]
"""Judges one model on a benchmark under settings, with the noise of a seed."""


def _by_module(spec: RunSpec, module: torch.nn.Module, step: int, gang: Gang) -> Judge:
    return lambda benchmark, settings, seed: benchmark.evaluate(
        module, settings, step=step, seed=seed, gang=gang, rows=spec.engine.eval_rows
    )


class EvalCache:
    """Judges runs, each base model only once per benchmark, setting and seed."""

    def __init__(self, load_base: Callable[[ModelSpec], BaseModel], gang: Gang) -> None:
        self._gang = gang
        self._benchmark = lru_cache(maxsize=8)(lambda spec, model: Benchmark(spec, load_base(model)))
        self._base_evaluations: dict[tuple, Evaluation] = {}

    def benchmark(self, spec: RunSpec) -> Benchmark:
        """What the run is judged on, the same whatever it adds to a model and whenever that is judged."""
        return self._benchmark(dataclasses.replace(spec.eval, steps=()), shared_model(spec.model))

    def tuned(self, spec: RunSpec, module: torch.nn.Module, step: int) -> list[Evaluation]:
        """Judge a model under all settings in one pass: greedy and sampled rows share prefixes."""
        return self.tuned_by(spec, _by_module(spec, module, step, self._gang))

    def tuned_by(self, spec: RunSpec, judge: Judge) -> list[Evaluation]:
        """The same of any model, which ``judge`` decodes by."""
        return judge(self.benchmark(spec), settings_of(spec.eval), spec.seed)

    def base(self, spec: RunSpec, module: torch.nn.Module) -> list[Evaluation]:
        """Judge the untrained model, if the run asks for step 0.

        Each setting is judged by itself, greedy once for all seeds, so that a remembered verdict equals a
        fresh one bit for bit.
        """
        return self.base_by(spec, _by_module(spec, module, 0, self._gang), packed=False)

    def base_by(self, spec: RunSpec, judge: Judge, *, packed: bool = True) -> list[Evaluation]:
        """The same of any untrained model, which ``judge`` decodes by.

        Args:
            packed: Whether that is a pack and not the model's own module, whose last bits are others.
        """
        if 0 not in spec.eval_steps:
            return []
        benchmark = self.benchmark(spec)
        evaluations = []
        for setting in settings_of(spec.eval):
            seed = spec.seed if setting.temperature else 0
            key = (spec.model, spec.eval, spec.engine, packed, setting, seed)
            if key not in self._base_evaluations:
                [fresh] = judge(benchmark, [setting], seed)
                if len(self._base_evaluations) == BASE_EVALUATIONS_REMEMBERED:
                    self._base_evaluations.pop(next(iter(self._base_evaluations)))
                self._base_evaluations[key] = fresh
            evaluations.append(self._base_evaluations[key])
        return evaluations

    def close(self) -> None:
        """Forget everything, and with it end the grading processes."""
        self._benchmark.cache_clear()
