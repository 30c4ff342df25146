"""Where every run stands: in a queue, held by a worker under a lease, or over. Pure; O(1) per change."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from orchestrator.scheduling import retry
from orchestrator.scheduling.backlog import LEASED, PENDING, SETTLED, Backlog, Workload
from orchestrator.store.outcomes import Failure, Grant


class Lease(NamedTuple):
    """Who holds a run."""

    worker: str
    token: int


class LeaseTable:
    """The runs of a manifest. A run has at most one lease, the one that counts."""

    def __init__(
        self,
        workload: Workload,
        *,
        settled: Iterable[int],
        attempts: array[int] | None,
        histories: Mapping[int, list[Failure]] | None,
        first_token: int,
    ) -> None:
        """Start from what is known; for the arguments see
        :class:`orchestrator.scheduling.scheduler.Scheduler`.
        """
        self._group_of = workload.group_of
        self._phase = bytearray(len(workload))
        for index in settled:
            self._phase[index] = SETTLED
        self.num_open = self._phase.count(PENDING)
        """Runs not over: pending, waiting for a retry, or held by a worker."""
        self.backlog = Backlog(workload, self._phase)
        """The pending ones."""
        self.num_leased_of = [0 for _ in workload.groups]
        """Held runs per group."""
        self._attempts = array("H", attempts or bytes(2 * len(workload)))
        self._histories = {i: list(h) for i, h in (histories or {}).items()}
        self._holders: dict[int, Lease] = {}
        self._next_token = first_token

    def grow(self, num_groups: int) -> None:
        """Take in the runs that the workload has now behind these, all pending, and its groups."""
        first, num = len(self._phase), len(self._group_of)
        self._phase.extend(bytes(num - first))
        self._attempts.extend(array("H", bytes(2 * (num - first))))
        self.num_leased_of.extend([0] * (num_groups - len(self.num_leased_of)))
        self.num_open += num - first
        self.backlog.add(range(first, num))

    @property
    def num_leased(self) -> int:
        return len(self._holders)

    def is_over(self, index: int) -> bool:
        """Whether a run has a result, or is given up."""
        return self._phase[index] == SETTLED

    def holder(self, index: int) -> Lease | None:
        return self._holders.get(index)

    def lease(self, index: int, worker: str) -> Grant:
        """Hand a run that was taken from the backlog to a worker."""
        history = self._histories.get(index)
        shrink = retry.shrink_for(history) if history else 0
        grant = Grant(index, self._attempts[index], self._next_token, shrink)
        self._attempts[index] += 1
        self._next_token += 1
        self._phase[index] = LEASED
        self._holders[index] = Lease(worker, grant.token)
        self.num_leased_of[self._group_of[index]] += 1
        return grant

    def release(self, index: int) -> None:
        """Take a lease back and queue the run again, uncharged."""
        self._drop_lease(index)
        self.backlog.put_back(index)

    def withdraw(self, index: int) -> Lease | None:
        """Take an open run out of wherever it is, for the caller to say what becomes of it.

        Returns:
            Who held it, if anybody.
        """
        holder = self._holders.get(index)
        if holder is None:
            self.backlog.discard(index)
        else:
            self._drop_lease(index)
        return holder

    def settle(self, index: int) -> None:
        """Note that a run which was withdrawn, or failed, is over."""
        self._phase[index] = SETTLED
        self.num_open -= 1
        self._histories.pop(index, None)

    def charge(self, index: int, failure: Failure) -> list[Failure]:
        """Take a lease back because of a failure; return the run's failures so far, the newest last."""
        history = self._histories.setdefault(index, [])
        history.append(failure._replace(details=""))
        self._drop_lease(index)
        return history

    def _drop_lease(self, index: int) -> None:
        del self._holders[index]
        self.num_leased_of[self._group_of[index]] -= 1
        self._phase[index] = PENDING
