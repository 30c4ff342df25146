"""The workers as the scheduler sees them: who lives, who is sick, who is to start or to go. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from orchestrator.scheduling import retry
from orchestrator.scheduling.config import SchedulerConfig
from orchestrator.scheduling.events import Beat, Capacity, Shape
from orchestrator.store.outcomes import INFRASTRUCTURE, TIMEOUT, Failure, Grant

_EPSILON = 1e-9
"""Fractions of a GPU that add up to a whole one may miss it by rounding."""


@dataclass(slots=True)
class Worker:
    """A worker or gang."""

    name: str
    """Unique in the sweep directory."""
    shape: Shape
    started_s: float
    host: str = ""
    """Host of rank 0, once up."""
    ready: bool = False
    retiring: bool = False
    """Gets nothing more and ends when idle."""
    leaving: bool = False
    """Its machine is taken away: when it is lost, no run is to blame."""
    group: int = -1
    """Group it served last, whose base model it has hot; -1 before the first."""
    leases: dict[int, Grant] = field(default_factory=dict)
    """What it holds, by token, in order; a recalled lease stays until the worker has dropped it."""
    unit_ends: dict[int, None] = field(default_factory=dict)
    """Last token of each batch it holds."""
    seen_s: float = 0.0
    token: int = 0
    """Lease it said it works on; 0 when idle or unknown."""
    token_since_s: float = 0.0
    progress: int = 0
    progress_s: float = 0.0
    """When the counter last grew."""
    words: str = ""
    """What the trainer said last of the run that it is working on."""

    @property
    def working_on(self) -> int:
        """Token of the lease it works on: the one it said, else its oldest; 0 when it holds none."""
        return self.token if self.token in self.leases else next(iter(self.leases), 0)

    def hear(self, beat: Beat, now_s: float) -> bool:
        """Take note of a heartbeat; true when it shows progress in a run that it holds."""
        self.seen_s, self.words = now_s, beat.words
        if beat.token != self.token:
            self.token, self.token_since_s, self.progress_s = beat.token, now_s, now_s
        if beat.progress == self.progress:
            return False
        self.progress, self.progress_s = beat.progress, now_s
        return beat.token in self.leases


class Sickness(NamedTuple):
    """Why a worker must be killed."""

    reason: str
    failure: Failure | None
    """What to charge the run it works on with, or ``None``."""
    record_stack: bool
    """Whether its stacks would tell why."""


def lost(reason: str) -> Failure:
    """The failure of a run whose worker went away."""
    text = f"worker lost: {reason}"
    return Failure(INFRASTRUCTURE, retry.fingerprint_of("worker lost", reason), text)


class Fleet:
    """Every worker asked for and not yet known to be gone."""

    def __init__(self, capacity: Capacity, prefix: str) -> None:
        self.capacity = capacity
        """What the pool can hand out in all."""
        self.workers: dict[str, Worker] = {}
        """By name."""
        self.num_start_failures = 0
        """Times in a row that workers died before they were up."""
        self.start_after_s = float("-inf")
        """No worker is started before this time."""
        self.peak_mib = 0.0
        """The most memory that one process of a worker has held."""
        self._start_failed_s = float("-inf")
        self._prefix = prefix
        self._next = 1
        self._num_of: dict[Shape, int] = defaultdict(int)

    def __len__(self) -> int:
        return len(self.workers)

    def __iter__(self) -> Iterator[Worker]:
        return iter(list(self.workers.values()))

    def leased_runs(self) -> Iterator[int]:
        """Indexes of the runs that workers hold, in no order; one that two of them hold comes twice."""
        return (grant.run for worker in self.workers.values() for grant in worker.leases.values())

    def leased_tokens(self) -> Iterator[int]:
        """Tokens of all leases that workers hold, in no order."""
        return (token for worker in self.workers.values() for token in worker.leases)

    def busy_workers(self) -> Iterator[str]:
        """Names of the workers that hold leases."""
        return (worker.name for worker in self.workers.values() if worker.leases)

    def words(self) -> Iterator[tuple[int, str]]:
        """Indexes of the runs that workers are at, each with what its trainer said last, where it did."""
        for worker in self.workers.values():
            grant = worker.leases.get(worker.token)
            if grant is not None and worker.words:
                yield grant.run, worker.words

    def enlist(self, shape: Shape, now_s: float) -> Worker:
        worker = Worker(name=f"{self._prefix}w{self._next}", shape=shape, started_s=now_s)
        self._next += 1
        self.workers[worker.name] = worker
        self._num_of[shape] += 1
        return worker

    def note_start_failure(self, worker: Worker, now_s: float) -> int:
        """A worker died before it was up; wait longer each time, and return how many times in a row.

        Workers that were started before the last such time count with it: they may have shared a node.
        """
        if worker.started_s > self._start_failed_s:
            self.num_start_failures += 1
            self.start_after_s = now_s + 2.0 ** min(self.num_start_failures, 5)
            self._start_failed_s = now_s
        return self.num_start_failures

    def touch_all(self, now_s: float) -> None:
        """Forgive all silence so far: it was the driver that did not listen."""
        for worker in self.workers.values():
            worker.seen_s = worker.progress_s = worker.token_since_s = now_s

    def count(self, shape: Shape) -> int:
        return self._num_of[shape]

    def remove(self, worker: Worker) -> None:
        del self.workers[worker.name]
        self._num_of[worker.shape] -= 1

    # --- health -----------------------------------------------------------------------------------

    def sick(
        self, now_s: float, settings: SchedulerConfig, timeout_s: Callable[[int, int], float]
    ) -> list[tuple[Worker, Sickness]]:
        """Workers that are silent, hung, over the time limit of their run, or not coming up."""
        states = ((w, self._sickness(w, now_s, settings, timeout_s)) for w in self.workers.values())
        return [(worker, sickness) for worker, sickness in states if sickness is not None]

    def _sickness(
        self,
        worker: Worker,
        now_s: float,
        settings: SchedulerConfig,
        timeout_s: Callable[[int, int], float],
    ) -> Sickness | None:
        if not worker.ready:
            late = now_s - max(worker.started_s, worker.seen_s) > settings.start_s
            return Sickness(f"not up after {settings.start_s:g} s", None, False) if late else None
        if now_s - worker.seen_s > settings.lease_s:
            reason = f"silent for {settings.lease_s:g} s"
            return Sickness(reason, lost(reason), True)
        if not worker.leases:
            return None
        if 0 < settings.watchdog_s < now_s - worker.progress_s:
            return _slow(f"no progress for {settings.watchdog_s:g} s")
        held = worker.leases.get(worker.token)
        limit_s = timeout_s(held.run, len(worker.leases)) if held is not None else 0.0
        if 0 < limit_s < now_s - worker.token_since_s:
            return _slow(f"over the limit of {limit_s:g} s")
        return None

    # --- size -------------------------------------------------------------------------------------

    def limits(self, settings: SchedulerConfig) -> tuple[int, float]:
        """Most processes and GPUs that may be in use."""
        slots, gpus = self.capacity.slots, self.capacity.gpus
        return min(slots, settings.max_slots or slots), min(gpus, settings.max_gpus or gpus)

    def in_use(self) -> tuple[int, float]:
        shapes = [w.shape for w in self.workers.values()]
        return sum(s.world_size for s in shapes), sum(s.world_size * s.gpus for s in shapes)

    def retire(
        self, settings: SchedulerConfig, waiting: Mapping[Shape, int], due: Mapping[Shape, int], now_s: float
    ) -> list[Worker]:
        """Mark workers in excess, in the way or of no use as retiring; return those that can end now.

        Args:
            waiting: runs per shape that may be handed out.
            due: runs per shape that may be once their retry is due.
        """
        for worker in self._useless(settings, waiting, due, now_s) if self.capacity.grows else ():
            worker.retiring = True
        slots, gpus = self.in_use()
        max_slots, max_gpus = self.limits(settings)
        idle_first = sorted(self.workers.values(), key=lambda w: (not w.retiring, len(w.leases)))
        for worker in idle_first:
            over = slots > max_slots or gpus > max_gpus + _EPSILON
            if worker.retiring or over or _in_the_way(worker, waiting):
                worker.retiring = True
                slots -= worker.shape.world_size
                gpus -= worker.shape.world_size * worker.shape.gpus
        return [w for w in idle_first if w.retiring and not w.leases]

    def _useless(
        self, settings: SchedulerConfig, waiting: Mapping[Shape, int], due: Mapping[Shape, int], now_s: float
    ) -> Iterator[Worker]:
        """Idle workers beyond the runs that are left for them: those not up yet at once, others after a
        while. Each keeps its node, or has one come.
        """
        idle: dict[Shape, list[Worker]] = defaultdict(list)
        for worker in self.workers.values():
            if not worker.leases and not worker.retiring:
                idle[worker.shape].append(worker)
        for shape, workers in idle.items():
            excess = len(workers) - waiting.get(shape, 0) - due.get(shape, 0)
            workers.sort(key=lambda w: (w.ready, w.progress_s))
            for worker in workers[: max(0, excess)]:
                if not worker.ready or now_s - worker.progress_s > settings.give_back_s:
                    yield worker

    def to_start(
        self, settings: SchedulerConfig, waiting: Mapping[Shape, int], now_s: float
    ) -> Iterator[Shape]:
        """Yield shapes to start while room is left; the caller enlists each before asking for the next."""
        while now_s >= self.start_after_s:
            slots, gpus = self.in_use()
            max_slots, max_gpus = self.limits(settings)
            shape = self._neediest(waiting, max_slots - slots, max_gpus - gpus)
            if shape is None:
                return
            yield shape

    def _room(self, shape: Shape) -> float:
        """Processes of a shape that the nodes hold. Where none does and none will come, starting a worker is
        tried all the same: its pool says why it fails.
        """
        room = self.capacity.room(shape)
        return room if room >= shape.world_size or self.capacity.grows else math.inf

    def _neediest(self, waiting: Mapping[Shape, int], slots: int, gpus: float) -> Shape | None:
        """The shape that fits and has most runs waiting per worker, if its idle workers do not cover them."""
        best, best_need = None, 0.0
        for shape, num in waiting.items():
            if shape.world_size > slots or shape.world_size * shape.gpus > gpus + _EPSILON:
                continue
            if (self.count(shape) + 1) * shape.world_size > self._room(shape):
                continue
            workers = [w for w in self.workers.values() if w.shape == shape and not w.retiring]
            if num > sum(not w.leases for w in workers) and num / (1 + len(workers)) > best_need:
                best, best_need = shape, num / (1 + len(workers))
        return best


def _slow(reason: str) -> Sickness:
    return Sickness(reason, Failure(TIMEOUT, retry.fingerprint_of("timeout", reason), reason), True)


def _in_the_way(worker: Worker, waiting: Mapping[Shape, int]) -> bool:
    """Whether an idle worker's shape has no work left while another shape waits for room."""
    return not worker.leases and not waiting.get(worker.shape) and any(waiting.values())
