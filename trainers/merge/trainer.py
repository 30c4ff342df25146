"""Runs that merge the kept weights of other runs and judge the result.

    emsweep merge outputs/mine --method soup,wise

A merge is a run like any other: its spec names the runs it merges (``init.runs``) and how
(``trainer.params``), it has an identity, is judged on the same benchmark with the same noise, and is a row of
every table.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sweeps.spec import EvalSpec, RunSpec
from trainers.engine.checkpoint import load_weights_of, write_weights
from trainers.engine.gang import Gang
from trainers.engine.run_layout import layout_of
from trainers.evaluation.eval_cache import EvalCache
from trainers.evaluation.evaluate import Benchmark, settings_of
from trainers.merge.weights import Greedy, greedy_soup, lines, soup, wise
from trainers.model.base_model import load_base, load_weights
from trainers.protocol import RunContext, RunResult, WorkerContext
from trainers.step.decode_rows import DecodeRows
from trainers.step.run_recorder import RunRecorder, Stopwatch

HELD_OUT_SEED = 0
"""Keys the noise of held-out judgements: members and soups are compared under the same."""


class Merge:
    """Trainer of merges: ``trainer.params.method`` is ``soup``, ``greedy``, ``wise`` or ``lines``."""

    def __init__(self, context: WorkerContext) -> None:
        self._gang = Gang(context)
        self._load_base = lru_cache(maxsize=8)(load_base)
        self._eval_cache = EvalCache(self._load_base, self._gang)
        self._held_out = lru_cache(maxsize=4)(lambda spec, model: Benchmark(spec, self._load_base(model)))
        self._rows = DecodeRows(self._gang, self._load_base, self._eval_cache)
        self._hot: tuple[tuple, torch.nn.Module, dict[str, Tensor]] | None = None

    def run(self, spec: RunSpec, context: RunContext) -> RunResult:
        watch, record = Stopwatch(), RunRecorder(spec, self._load_base(spec.model))
        module, base = self._model(spec)
        self._gang.process.restore()
        [spec] = self._rows.settled([spec], module)
        record.took("setup_s", watch.lap())
        with torch.inference_mode():
            _put(module, base)
            record.evaluated(0, self._eval_cache.base(spec, module))
            record.took("eval_s", watch.lap())
            weights, metrics = self._merged(spec, module, base)
            record.took("train_s", watch.lap())
            _put(module, weights)
            record.evaluated(spec.steps, self._eval_cache.tuned(spec, module, spec.steps))
            record.took("eval_s", watch.lap())
        if context.checkpoint_dir is not None and self._gang.rank == 0:
            folder, kept = context.checkpoint_dir, {n: t.contiguous() for n, t in weights.items()}
            write_weights(folder, kept, module, spec, self._load_base(spec.model), spec.steps)
            record.took("checkpoint_s", watch.lap())
        context.heartbeat("merged")
        result = record.result("done", layout_of(spec, self._gang))
        return dataclasses.replace(result, metrics={**result.metrics, **metrics})

    def close(self) -> None:
        self._eval_cache.close()
        self._held_out.cache_clear()
        self._hot = None

    def _merged(
        self, spec: RunSpec, module: torch.nn.Module, base: Mapping[str, Tensor]
    ) -> tuple[Mapping[str, Tensor], dict[str, float | int]]:
        params = spec.trainer.params
        kept = list(zip(spec.init.runs, map(Path, spec.init.folders), strict=True))
        match params["method"]:
            case "soup":
                return soup(load_weights_of(*member) for member in kept), {"num_members": len(kept)}
            case "greedy":
                members = [load_weights_of(*member) for member in kept]
                greedy = self._greedy(spec, module, members)
                metrics = {
                    "num_members": len(greedy.members),
                    "held_out_accuracy": greedy.accuracy,
                    "held_out_best_member": greedy.best_member,
                }
                return soup(members[i] for i in greedy.members), metrics
            case "wise":
                return wise(base, load_weights_of(*kept[0]), params["alpha"]), {}
            case "lines":
                return lines(base, load_weights_of(*kept[0]), params["alpha"]), {}
        raise ValueError(f"trainer.params.method={params['method']!r}: choose soup, greedy, wise or lines")

    def _greedy(self, spec: RunSpec, module: torch.nn.Module, members: list[dict[str, Tensor]]) -> Greedy:
        benchmark = self._held_out(_held_out_eval(spec), spec.model)

        def held_out(chosen: tuple[int, ...]) -> float:
            _put(module, soup(members[i] for i in chosen))
            settings = settings_of(benchmark.spec)
            evaluations = benchmark.evaluate(
                module, settings, step=1, seed=HELD_OUT_SEED, gang=self._gang, rows=spec.engine.eval_rows
            )
            return sum(e.accuracy for e in evaluations) / len(evaluations)

        return greedy_soup([held_out((i,)) for i in range(len(members))], held_out)

    def _model(self, spec: RunSpec) -> tuple[torch.nn.Module, dict[str, Tensor]]:
        """The base model, kept hot, and its weights."""
        plain = dataclasses.replace(spec.model, adapter="none")  # an adapter is merged into kept weights
        key = (plain, spec.engine.precision, spec.engine.attention)
        if self._hot is None or self._hot[0] != key:
            module = load_weights(plain, precision=spec.engine.precision, attention=spec.engine.attention)
            module = module.to(self._gang.device)
            base = {n: p.detach().cpu().clone() for n, p in module.named_parameters()}
            self._hot = key, module, base
        return self._hot[1], self._hot[2]


@torch.no_grad()
def _put(module: torch.nn.Module, weights: Mapping[str, Tensor]) -> None:
    for name, parameter in module.named_parameters():
        parameter.copy_(weights[name])


def _held_out_eval(spec: RunSpec) -> EvalSpec:
    """The benchmark's settings on the held-out items."""
    params: Mapping[str, Any] = spec.trainer.params
    return dataclasses.replace(
        spec.eval, name="held-out", path=params["held_out"], digest=params["held_out_digest"], limit=0
    )
