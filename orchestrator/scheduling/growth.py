"""How many workers a cluster that grows is asked for: as many as the work that is left could use. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

from orchestrator.scheduling.config import SchedulerConfig
from orchestrator.scheduling.events import Shape

WORTH_S = 30.0
"""Work that a further worker must find to be worth asking for: what a node and a worker on it need to come up
at best.
"""

MAX_ASKED = 2_000
"""Most processes asked for at a time; Ray's autoscaler packs them anew each few seconds."""


FIRST_ASKED = 4
"""Workers asked for first where it is not known how many can be had."""


def useful_workers(num_runs: int, mean_s: float | None) -> float:
    """Workers that could be of use to so many open runs of ``mean_s`` seconds, ``None`` while that is not
    known.
    """
    return num_runs if mean_s is None else min(num_runs, num_runs * mean_s / WORTH_S)


def asked_for(useful: Mapping[Shape, float], settings: SchedulerConfig) -> dict[Shape, int]:
    """Workers of each shape to ask for, below the caps: no node is to come for a worker that may not start.

    Args:
        useful: of each shape, as :func:`useful_workers` counts them.
    """
    slots = min(settings.max_slots or MAX_ASKED, MAX_ASKED)
    gpus = settings.max_gpus or math.inf
    asked: dict[Shape, int] = {}
    for shape, num in useful.items():
        per_worker = shape.world_size * shape.gpus
        fit = slots // shape.world_size
        if per_worker:
            fit = int(min(fit, gpus / per_worker + 1e-9))
        if (workers := min(math.ceil(num), fit)) > 0:
            asked[shape] = workers
            slots -= workers * shape.world_size
            gpus -= workers * per_worker
    return asked


class Feeler:
    """Finds how much an autoscaler can give that gives all of a request or nothing of it, as Ray's second one
    does: one shape at a time is asked for twice as many, and for half the distance once that was too much.
    """

    def __init__(self) -> None:
        self._granted: dict[Shape, int] = {}
        self._refused: dict[Shape, int] = {}
        self._trying: Shape | None = None
        self._asked: dict[Shape, int] = {}

    def next(self, wanted: Mapping[Shape, int]) -> dict[Shape, int]:
        """Workers of each shape to ask for now; :meth:`judge` is to follow where :attr:`is_trying`."""
        held = {shape: min(num, self._granted.get(shape, 0)) for shape, num in wanted.items()}
        self._trying = None
        for shape, num in sorted(wanted.items(), key=lambda item: held[item[0]]):
            more = self._step(held[shape])
            if (refused := self._refused.get(shape)) is not None:
                more = min(more, (held[shape] + refused) // 2)
            if (more := min(more, num)) > held[shape]:
                held[shape], self._trying = more, shape
                break
        self._asked = {shape: num for shape, num in held.items() if num}
        return self._asked

    @staticmethod
    def _step(held: int) -> int:
        return max(FIRST_ASKED, 2 * held)

    @property
    def is_trying(self) -> bool:
        """Whether more was asked for than is known to be given."""
        return self._trying is not None

    def judge(self, *, feasible: bool) -> None:
        """What was asked for last can be given, or not."""
        if self._trying is None:
            return
        (self._granted if feasible else self._refused)[self._trying] = self._asked[self._trying]
        self._trying = None

    def forget_refusals(self) -> None:
        """Limits may have been raised since."""
        self._refused.clear()
