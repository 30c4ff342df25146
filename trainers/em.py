"""The trainer that ships: runs that ask for it are trained in packs, all others one by one or sharing stages.

Its name is older than its objectives, and is hashed into run ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sweeps.sharing.packs import is_packed
from sweeps.spec import RunSpec
from trainers.model.download import fetched
from trainers.packs.trainer import PackTrainer
from trainers.packs.warm import Warm
from trainers.policy_trainer import PolicyTrainer
from trainers.protocol import Outcome, RunContext, WorkerContext


class EntropyMinimization(PolicyTrainer):
    """:class:`~trainers.policy_trainer.PolicyTrainer` with packs beside it."""

    def __init__(self, context: WorkerContext) -> None:
        super().__init__(context)
        self.packs = PackTrainer(Warm(self.gang, self.load_base, self.eval_cache, self.rewards))

    def run_group(
        self, specs: Sequence[RunSpec], contexts: Sequence[RunContext]
    ) -> Iterator[tuple[int, Outcome]]:
        """Train and judge several runs; see :class:`trainers.protocol.GroupTrainer`."""
        asking = [i for i, spec in enumerate(specs) if is_packed(spec)]
        with fetched([specs[i] for i in asking], contexts[0].heartbeat):
            packed = [i for i in asking if self.packs.takes(specs[i], among=len(specs))]
        others = sorted(set(range(len(specs))) - set(packed))
        for members, train in ((packed, self.packs.outcomes), (others, super().run_group)):
            for position, outcome in train([specs[i] for i in members], [contexts[i] for i in members]):
                yield members[position], outcome

    def close(self) -> None:
        self.packs.close()
        super().close()
