"""Puts runs that ask for it into packs; :mod:`trainers.packs.pack` trains one.

What goes wrong for all members at once, memory above all, halves the pack: the runs without an outcome start
again, fewer at a time, down to one, which is charged with it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from sweeps.sharing.packs import pack_key
from sweeps.sharing.stages import plan_stages
from sweeps.spec import RunSpec, SpecError
from trainers.packs.architecture import NotPackable
from trainers.packs.pack import Pack
from trainers.packs.warm import Warm
from trainers.protocol import Outcome, RunContext

_LOG = logging.getLogger(__name__)


class PackTrainer:
    """Puts runs into packs."""

    def __init__(self, warm: Warm) -> None:
        self.warm = warm

    def takes(self, spec: RunSpec, *, among: int = 1) -> bool:
        """Whether a run that asks for a pack is trained in one: its model's layers are known and keep members
        apart on this processor.

        Args:
            among: Runs that it comes with.
        """
        try:
            self.warm.pool.require(spec, min(among, spec.engine.pack))
        except NotPackable:
            return False
        except SpecError:
            return True  # it fails by itself
        return True

    def outcomes(
        self, specs: Sequence[RunSpec], contexts: Sequence[RunContext]
    ) -> Iterator[tuple[int, Outcome]]:
        """Yield each run's position and outcome; runs are packed with those of equal
        :func:`sweeps.sharing.packs.pack_key`.

        Raises:
            NotPackable: before the first outcome of a model whose runs cannot be packed.
        """
        alike: dict[str, list[int]] = {}
        for position, spec in enumerate(specs):
            alike.setdefault(pack_key(spec), []).append(position)
        for positions in alike.values():
            yield from self._packs(specs, contexts, positions, specs[positions[0]].engine.pack)

    def _packs(
        self,
        specs: Sequence[RunSpec],
        contexts: Sequence[RunContext],
        positions: Sequence[int],
        width: int,
    ) -> Iterator[tuple[int, Outcome]]:
        """Train runs in packs of at most ``width``."""
        roots = plan_stages([specs[p] for p in positions])
        ordered = list(dict.fromkeys(positions[run] for root in roots for run in root.runs))
        num_packs = -(-len(ordered) // width)
        for number in range(num_packs):
            members = ordered[number * len(ordered) // num_packs : (number + 1) * len(ordered) // num_packs]
            yield from self._pack(specs, contexts, members, width)

    def _pack(
        self, specs: Sequence[RunSpec], contexts: Sequence[RunContext], positions: Sequence[int], width: int
    ) -> Iterator[tuple[int, Outcome]]:
        left = dict.fromkeys(positions)
        try:
            own = [specs[p] for p in positions]
            engine = self.warm.pool.acquire(own)
            pack = Pack(self.warm, engine, own, [contexts[p] for p in positions], width)
            for run, outcome in pack.outcomes():
                del left[positions[run]]
                yield positions[run], outcome
        except Exception as error:
            self.warm.pool.discard()
            if len(positions) == 1:
                yield from ((position, error) for position in left)
                return
            _LOG.warning(
                "a pack of %d runs failed (%s); they start again, half as many at once", len(positions), error
            )
        if left:
            yield from self._packs(specs, contexts, list(left), len(positions) // 2)

    def close(self) -> None:
        self.warm.pool.close()
