"""Puts runs that ask for it into packs; :mod:`trainers.packs.pack` trains one.

What goes wrong for all members at once, memory above all, halves the pack: the runs without an outcome start
again, fewer at a time, down to one, which is charged with it.
"""

from __future__ import annotations

import dataclasses
import logging
import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from functools import partial
from typing import Any

from sweeps.sharing.packs import pack_key
from sweeps.sharing.stages import plan_stages
from sweeps.spec import RunSpec
from trainers.packs.architecture import NotPackable
from trainers.packs.pack import Pack
from trainers.packs.warm import Warm
from trainers.protocol import Outcome, RunContext
from trainers.reporting.decision import GO_ON, Decision

_LOG = logging.getLogger(__name__)


@dataclasses.dataclass
class _Kept:
    """Reports of a member, kept until the first rank hears of them, which alone passes reports on."""

    rows: list[tuple[int, Mapping[str, Any]]] = field(default_factory=list)

    def __call__(self, step: int, **values: Any) -> Decision:
        self.rows.append((step, values))
        return GO_ON


def _sendable(outcome: Any) -> Any:
    """What another process can read: an exception that it could not make is told by its text."""
    if isinstance(outcome, Exception):
        try:
            pickle.loads(pickle.dumps(outcome))
        except Exception:
            return RuntimeError(f"{type(outcome).__name__}: {outcome}")
    return outcome


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
        except Exception:
            return True  # what is wrong is told in its pack, which may be halved for it
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
        train = self._alone if self.warm.world.world_size == 1 else self._dealt_out
        try:
            for position, outcome in train(specs, contexts, positions, width):
                del left[position]
                yield position, outcome
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

    def _alone(
        self, specs: Sequence[RunSpec], contexts: Sequence[RunContext], positions: Sequence[int], width: int
    ) -> Iterator[tuple[int, Outcome]]:
        own = [specs[p] for p in positions]
        engine = self.warm.pool.acquire(own, slots=len(own))
        for run, outcome in Pack(self.warm, engine, own, [contexts[p] for p in positions], width).outcomes():
            yield positions[run], outcome

    def _dealt_out(
        self, specs: Sequence[RunSpec], contexts: Sequence[RunContext], positions: Sequence[int], width: int
    ) -> Iterator[tuple[int, Outcome]]:
        """Every rank trains some of the members; all know what came of each."""
        world = self.warm.world
        own = positions[world.rank :: world.world_size]
        slots = -(-len(positions) // world.world_size)
        engine = self.warm.pool.acquire([specs[p] for p in positions], slots=slots)
        told, failure = list[tuple[int, Outcome]](), None
        kept: dict[int, _Kept] = {} if world.rank == 0 else {p: _Kept() for p in own}
        heard = [dataclasses.replace(contexts[p], report=kept.get(p, contexts[p].report)) for p in own]
        try:
            if own:
                pack = Pack(self.warm, engine, [specs[p] for p in own], heard, width)
                told = [(own[run], _sendable(outcome)) for run, outcome in pack.outcomes()]
        except Exception as error:
            failure = _sendable(error)
        engine.stack.wait_for_others(partial(contexts[positions[0]].heartbeat, "other ranks are at work"))
        everyone = world.gather((told, failure, {p: k.rows for p, k in kept.items()}))
        lost = self._passed_on(contexts, {p: own for _, _, rows in everyone for p, own in rows.items()})
        for told_there, _, _ in everyone:
            yield from ((position, lost.get(position, outcome)) for position, outcome in told_there)
        for _, failed, _ in everyone:
            if failed is not None:
                raise failed

    def _passed_on(
        self, contexts: Sequence[RunContext], reported: Mapping[int, list[tuple[int, Mapping[str, Any]]]]
    ) -> Mapping[int, Exception]:
        """Pass kept reports on; return, on every rank, what went wrong with whose."""
        lost: dict[int, Exception] = {}
        for position, rows in reported.items():
            try:
                for step, values in rows:
                    contexts[position].report(step, **values)
            except Exception as error:
                lost[position] = _sendable(error)
        return {
            position: error for there in self.warm.world.gather(lost) for position, error in there.items()
        }

    def close(self) -> None:
        self.warm.pool.close()
