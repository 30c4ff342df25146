"""What a worker keeps warm between packs: engines, benchmarks, encoded prompts, first rollouts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from sweeps.spec import ModelSpec, RunSpec
from trainers.engine.gang import Alone, Gang
from trainers.evaluation.eval_cache import EvalCache
from trainers.model.base_model import BaseModel
from trainers.packs.pool import PackPool
from trainers.step.decode_rows import DecodeRows
from trainers.step.prompts import Prompts
from trainers.step.rewards import Rewards
from trainers.step.rollout import Rollouts

ROLLOUTS_REMEMBERED = 64
"""First rollouts kept for the packs to come; a sweep's kin follow each other."""

PROMPTS_REMEMBERED = 64
"""Examples whose token ids are kept, and training sets whose walk is."""


class Warm:
    """Shared by all packs of a worker."""

    def __init__(
        self,
        gang: Gang,
        load_base: Callable[[ModelSpec], BaseModel],
        eval_cache: EvalCache,
        rewards: Rewards,
    ) -> None:
        self.world = gang
        self.gang = gang if gang.world_size == 1 else Alone(gang)
        """What a member is trained with: one rank, whichever it is dealt out to."""
        if gang.world_size > 1:
            eval_cache, rewards = EvalCache(load_base, self.gang), Rewards(self.gang)
        self.load_base, self.eval_cache, self.rewards = load_base, eval_cache, rewards
        self.pool = PackPool(gang)
        self.rows = DecodeRows(self.gang, load_base, eval_cache)
        self._first_rollouts: OrderedDict[str, Rollouts] = OrderedDict()
        self._prompts: OrderedDict[tuple, Prompts] = OrderedDict()

    def first_rollouts(self, key: str) -> Rollouts | None:
        """What the base model drew for all runs of one :func:`~sweeps.sharing.stages.rollout_key`."""
        known = self._first_rollouts.get(key)
        if known is not None:
            self._first_rollouts.move_to_end(key)
        return known

    def remember_first_rollouts(self, key: str, rollouts: Rollouts) -> None:
        self._first_rollouts[key] = rollouts
        if len(self._first_rollouts) > ROLLOUTS_REMEMBERED:
            self._first_rollouts.popitem(last=False)

    def prompts_of(self, spec: RunSpec) -> Prompts:
        """The run's prompts, which neighbours mostly share."""
        objective = spec.objective
        walked: tuple = (spec.example,)
        if spec.data.is_set:
            walked = spec.data, spec.seed, objective.iterations, objective.targets, objective.draws_rollouts
        key = (spec.model, spec.sampling.max_prompt_tokens, spec.sampling.overlong, *walked)
        if key not in self._prompts:
            self._prompts[key] = Prompts(spec, self.load_base(spec.model))
            if len(self._prompts) > PROMPTS_REMEMBERED:
                self._prompts.popitem(last=False)
        return self._prompts[key]
