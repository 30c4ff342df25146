"""Says how many rows a run decodes at once, in rollouts and on its benchmark, where not all fit memory.

What a run is asked for stays as it is wherever it fits, since the number of rows decides the bits of logits.
Where it does not, the number is settled once, before the run begins, and stored with its result
(:mod:`trainers.engine.run_layout`), so that ``replay`` takes the same whatever is free then.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import torch

from sweeps.sharing.packs import shared_model
from sweeps.spec import ModelSpec, RunSpec, phases_of
from trainers.decoding import choose_decoder
from trainers.decoding.rows import ModelMemory, model_memory, row_bytes, rows_that_fit
from trainers.engine.free_memory import decoding_budget
from trainers.engine.gang import Gang
from trainers.engine.run_layout import rows_at_once
from trainers.evaluation.eval_cache import EvalCache
from trainers.model.base_model import BaseModel
from trainers.step.prompts import longest_prompt


class DecodeRows:
    """Settles the rows of a worker's runs.

    Args:
        budget_bytes: What decoding may take; ``None`` asks the device, once for a model and engine, so that
            all runs of a worker agree.
    """

    def __init__(
        self,
        gang: Gang,
        load_base: Callable[[ModelSpec], BaseModel],
        eval_cache: EvalCache,
        budget_bytes: int | None = None,
    ) -> None:
        self._gang, self._load_base, self._eval_cache = gang, load_base, eval_cache
        self._given = budget_bytes
        self._measured: dict[tuple, int] = {}

    def settled(self, specs: Sequence[RunSpec], module: torch.nn.Module) -> list[RunSpec]:
        """The specs of runs that share an engine, with numbers of rows where not all fit.

        Raises:
            MemoryError: if not even one row fits.
        """
        budget = self._budget(specs[0], module)
        model = model_memory(cast(Any, module).config, next(module.parameters()).element_size())
        limits = {
            "rollout_rows": [rows for spec in specs for rows in self._rollout_limits(spec, model, budget)],
            "eval_rows": [rows for spec in specs for rows in self._eval_limits(spec, model, budget)],
        }
        smaller = {name: min(rows) for name, rows in limits.items() if rows}
        return [_with(spec, smaller) for spec in specs]

    def _budget(self, spec: RunSpec, module: torch.nn.Module) -> int:
        if self._given is not None:
            return self._given
        key = (shared_model(spec.model), spec.engine)
        if key not in self._measured:
            self._measured[key] = decoding_budget(spec, module, self._gang)
        return self._measured[key]

    def _rollout_limits(self, spec: RunSpec, model: ModelMemory, budget: int) -> Iterator[int]:
        """Rows at once of the phases whose rollouts do not all fit."""
        if spec.engine.rollout_rows:
            return
        for phase in phases_of(spec):
            if not phase.num_draws:
                continue
            sampling = phase.sampling
            num_prompts = phase.data.prompts_per_step if phase.data.is_set else len(phase.example.prompts)
            asked = max(-(-phase.rollouts_at_once // self._gang.world_size), num_prompts)
            if asked * row_bytes(model, sampling.max_prompt_tokens, sampling.max_new_tokens) <= budget:
                continue  # also with the longest prompts there may be, which need not be encoded then
            longest = longest_prompt(phase, self._load_base(phase.model))
            decoder = choose_decoder(
                phase.engine.decoder,
                prompt_tokens=longest,
                max_new_tokens=sampling.max_new_tokens,
                vocab_size=model.vocab_size,
            )
            if decoder == "cached":
                yield from _limit("sampling", asked, longest, sampling.max_new_tokens, model, budget)

    def _eval_limits(self, spec: RunSpec, model: ModelMemory, budget: int) -> Iterator[int]:
        if spec.engine.eval_rows or not spec.eval_steps:
            return
        benchmark, per_item = self._eval_cache.benchmark(spec), spec.eval.completions_per_item
        of_rank = -(-len(benchmark.items) // self._gang.world_size) * per_item
        asked = max(per_item, min(spec.eval.batch_items, of_rank))
        yield from _limit("eval", asked, benchmark.longest_prompt, spec.eval.max_new_tokens, model, budget)


def as_begun(spec: RunSpec, progress: Mapping[str, Any]) -> RunSpec:
    """The spec of a run that goes on, with the rows of its killed attempt where those are fewer."""
    now = rows_at_once(spec)
    fewer = {name: rows for name, rows in progress.get("rows_at_once", {}).items() if rows < now[name]}
    return dataclasses.replace(spec, engine=dataclasses.replace(spec.engine, **fewer))


def _limit(
    group: str, asked: int, prompt_tokens: int, new_tokens: int, model: ModelMemory, budget: int
) -> Iterator[int]:
    """The rows that fit, unless all that are asked for do."""
    try:
        rows = rows_that_fit(asked, row_bytes(model, prompt_tokens, new_tokens), budget)
    except MemoryError as error:
        raise MemoryError(
            f"{group}.max_new_tokens={new_tokens} after a prompt of {prompt_tokens} tokens: {error}"
        ) from error
    if rows < asked:
        yield rows


def _with(spec: RunSpec, rows: Mapping[str, Any]) -> RunSpec:
    own = {name: number for name, number in rows.items() if not getattr(spec.engine, name)}
    return dataclasses.replace(spec, engine=dataclasses.replace(spec.engine, **own)) if own else spec
