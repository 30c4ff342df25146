"""The runs still to be handed out, by group, with the waiting retries. Pure; amortised O(1) per run.

A **group** is runs that any one worker of a shape serves best together: same shape, same base model.
"""

from __future__ import annotations

import heapq
from array import array
from collections import deque
from collections.abc import Iterable, MutableSequence, Sequence, Set
from dataclasses import dataclass

from orchestrator.scheduling.events import Shape


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Runs that share a shape and a base model."""

    shape: Shape
    affinity: str
    """The base model, which a worker keeps hot between runs; empty for trainers that have none."""
    timeout_s: float = 0.0
    """Longest wall time of one attempt; 0 sets no limit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """A manifest as the scheduler sees it."""

    groups: MutableSequence[Group]
    group_of: MutableSequence[int]
    """Group of each run, shape (runs,)."""
    order: Sequence[int] | None = None
    """The pending runs in the order in which to hand them out; ``None`` keeps the manifest's."""
    bundle_of: Sequence[int] | None = None
    """Bundle of each run, or ``None``. Runs of one bundle that follow each other go to one worker together.
    """

    def __len__(self) -> int:
        return len(self.group_of)

    def grow(self, whole: Workload) -> None:
        """Take in the runs and groups that ``whole`` has behind these."""
        self.groups.extend(whole.groups[len(self.groups) :])
        self.group_of.extend(whole.group_of[len(self.group_of) :])

    def timeout_s(self, run: int, num_held: int) -> float:
        """Longest that a worker which holds so many may be at one; those of a bundle advance together."""
        limit_s = self.groups[self.group_of[run]].timeout_s
        return limit_s if self.bundle_of is None else limit_s * num_held


PENDING, LEASED, SETTLED = 0, 1, 2
"""Phases of a run: waiting for a worker (retries included), held by one, or over."""


class Backlog:
    """Queues of pending runs. The caller owns ``phase`` and changes it; entries that are no longer pending
    are skipped.
    """

    def __init__(self, workload: Workload, phase: bytearray) -> None:
        self._workload = workload
        self._phase = phase
        self._fresh: list[array[int]] = []
        self._cursor: list[int] = []
        self._again: list[deque[int]] = []
        self._waiting: list[tuple[float, int]] = []
        self._due: set[int] = set()
        self.first: list[int] = []
        """The first run of each group, pending or not."""
        self.num_ready: list[int] = []
        """Pending runs per group that may start now."""
        self._seen: set[int] = set()
        self.add(range(len(workload)) if workload.order is None else workload.order)

    def add(self, runs: Iterable[int]) -> None:
        """Queue those of these runs that are pending, behind all others; their groups may be new."""
        for _ in range(len(self._fresh), len(self._workload.groups)):
            self._fresh.append(array("I"))
            self._again.append(deque())
            for numbers in (self._cursor, self.first, self.num_ready):
                numbers.append(0)
        for index in runs:
            group = self._workload.group_of[index]
            if group not in self._seen:
                self._seen.add(group)
                self.first[group] = index
            if self._phase[index] == PENDING:
                self._fresh[group].append(index)
                self.num_ready[group] += 1

    @property
    def waiting(self) -> Set[int]:
        """Runs whose retry must not start yet."""
        return self._due

    @property
    def next_due_s(self) -> float | None:
        """When the next retry may start, or ``None``."""
        return self._waiting[0][0] if self._waiting else None

    def put_back(self, index: int, due_s: float | None = None) -> None:
        """Queue a run again, ahead of fresh ones: now, or not before ``due_s``."""
        if due_s is not None:
            heapq.heappush(self._waiting, (due_s, index))
            self._due.add(index)
            return
        group = self._workload.group_of[index]
        self._again[group].append(index)
        self.num_ready[group] += 1

    def release_due(self, now_s: float) -> None:
        """Move retries whose time has come to their queues."""
        while self._waiting and self._waiting[0][0] <= now_s:
            _, index = heapq.heappop(self._waiting)
            if index in self._due:
                self._due.remove(index)
                self.put_back(index)

    def discard(self, index: int) -> None:
        if index in self._due:
            self._due.remove(index)
        else:
            self.num_ready[self._workload.group_of[index]] -= 1

    def take(self, group: int, limit: int) -> list[int]:
        """Remove and return up to ``limit`` pending runs of ``group``, the last one's bundle whole.

        Runs that come back go first, and come in the order in which they were put back.
        """
        taken: list[int] = []
        again, fresh = self._again[group], self._fresh[group]
        while again and self._goes_along(again[0], taken, limit):
            index = again.popleft()
            if self._phase[index] == PENDING:
                taken.append(index)
        cursor = self._cursor[group]
        while cursor < len(fresh) and self._goes_along(fresh[cursor], taken, limit):
            if self._phase[fresh[cursor]] == PENDING:
                taken.append(fresh[cursor])
            cursor += 1
        self._cursor[group] = cursor
        self.num_ready[group] -= len(taken)
        return taken

    def _goes_along(self, index: int, taken: list[int], limit: int) -> bool:
        if len(taken) < limit or self._phase[index] != PENDING:
            return True
        bundles = self._workload.bundle_of
        return bundles is not None and bundles[index] == bundles[taken[-1]]
