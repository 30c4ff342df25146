"""The state machine of a race over seeds: observations in any order in, verdicts out. Pure.

A race looks in rounds. Look r uses the first r seed positions of every member still in, and takes place
once all of these are known; a result that came early waits, and nobody waits for it: other runs of members
that are still in can be worked on meanwhile. What is decided at a look is a function of these observations
alone, so the order of arrival, a kill and a resume change neither a verdict nor its number of seeds. A
round that a budget cuts off is not looked at.
"""

from __future__ import annotations

from math import isfinite

import numpy as np

from sweeps.deciding.best import Best
from sweeps.deciding.intervals import anytime_intervals
from sweeps.deciding.rules import Claim, RaceRule, Verdict
from sweeps.deciding.sides import Sides, evidence_about
from sweeps.spec.errors import require

__all__ = ["Race", "RaceRule", "Verdict"]


class Race:
    """Observations of members by seed position; verdicts as soon as all that they need is known."""

    def __init__(self, num_members: int, rule: RaceRule) -> None:
        require(num_members >= 1, "members", num_members, "a race needs at least one member")
        self.rule = rule
        self.num_members = num_members
        self.num_looks = 0
        """Looks taken: every member still in has this many positions known."""
        self._state = Best(num_members, rule) if rule.question == "best" else Sides(num_members, rule)
        self._known = np.zeros((num_members, 0), dtype=bool)
        self._values = np.zeros((num_members, 0))
        self._floors = np.zeros((num_members, 0))
        self._looks = np.zeros(num_members, dtype=np.int64)
        self._items: dict[int, dict[int, np.ndarray]] = {}
        self._intervals: tuple[int, np.ndarray, np.ndarray] | None = None

    @property
    def level(self) -> float:
        """Level of the intervals."""
        return 1 - self.rule.alpha

    def is_open(self, member: int) -> bool:
        """Whether the member is undecided, so that its next seeds are worth running."""
        return bool(self._state.open[member])

    def num_seeds(self, member: int) -> int:
        """Seeds with a value that the member's interval rests on."""
        return int((~np.isnan(self._values[member, : self._looks[member]])).sum())

    def leave(self, member: int, log_evidence: float) -> None:
        """Take out a member that was decided before, on what is no longer known: it is waited for no more, no
        verdict on it comes, and its claim counts among those that were made.
        """
        self._state.leave(member, log_evidence)

    def open_members(self) -> list[int]:
        """Members that are undecided, in order."""
        return [int(member) for member in np.flatnonzero(self._state.open)]

    def add(self, member: int, position: int, value: float | None, items: np.ndarray | None = None) -> None:
        """Add what one seed gave; the same once more changes nothing.

        Args:
            member: from 0 to ``num_members - 1``.
            position: of the seed in seed order, from 0.
            value: the member's value, or its paired difference; ``None`` if this seed will never have one.
            items: the run's score, or difference of scores, by item; their sampling variance is the least
                spread that a seed's value is taken to have. For ``best`` in the same order for all members.

        Raises:
            SpecError: for a value or an item that is not finite, or a value beyond ``bounds``.
            ValueError: for another value than the one already known.
        """
        if not 0 <= member < self.num_members or position < 0:
            raise ValueError(f"member {member}, position {position}: there is no such place")
        number, floor = np.nan, 0.0
        if value is not None:
            number = float(value)
            self._check(member, position, number)
            items = None if items is None or np.size(items) < 2 else np.asarray(items, dtype=float)
            floor = 0.0 if items is None else _sampling_variance(member, position, items)
        if position >= self._known.shape[1]:
            self._grow(max(16, 2 * self._known.shape[1], position + 1))
        if self._known[member, position]:
            before = self._values[member, position]
            if before != number and not (np.isnan(before) and np.isnan(number)):
                raise ValueError(f"member {member}, position {position}: has {before}, not {number}")
            return
        self._known[member, position] = True
        self._values[member, position] = number
        self._floors[member, position] = floor
        if value is not None and items is not None and isinstance(self._state, Best) and self.is_open(member):
            self._items.setdefault(position, {})[member] = items

    def decide(self) -> list[Verdict]:
        """Verdicts since the last call, look by look, by member within a look."""
        verdicts: list[Verdict] = []
        while self._state.open.any() and self._complete(self.num_looks):
            claims = sorted(self._look(), key=lambda claim: claim.member)
            if claims:
                members = np.array([claim.member for claim in claims])
                low, high = self._intervals_of(members)
                num_seeds = (~np.isnan(self._values[members, : self.num_looks])).sum(axis=1)
                verdicts += [
                    Verdict(
                        member=claim.member,
                        side=claim.side,
                        num_seeds=int(num_seeds[k]),
                        log_evidence=claim.log_evidence,
                        low=float(low[k]),
                        high=float(high[k]),
                    )
                    for k, claim in enumerate(claims)
                ]
        return verdicts

    def interval(self, member: int) -> tuple[float, float]:
        """The member's anytime interval as of the last look that it took part in.

        It holds the member's mean with probability ``1 - alpha`` whenever it is read, for this member
        alone, and leaves out what a verdict has rejected.
        """
        low, high = self.intervals()
        return float(low[member]), float(high[member])

    def intervals(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends of all members' intervals; taken anew once a look."""
        if self._intervals is None or self._intervals[0] != self.num_looks:
            self._intervals = (self.num_looks, *self._intervals_of(np.arange(self.num_members)))
        return self._intervals[1:]

    def _check(self, member: int, position: int, number: float) -> None:
        key = f"value of member {member}, seed position {position}"
        require(isfinite(number), key, number, "must be a finite number, or None for a seed that has none")
        if self.rule.bounds is not None:
            low, high = self.rule.bounds
            require(low <= number <= high, key, number, f"must lie within search.bounds={self.rule.bounds}")

    def _grow(self, num_positions: int) -> None:
        more = ((0, 0), (0, num_positions - self._known.shape[1]))
        self._known = np.pad(self._known, more)
        self._values = np.pad(self._values, more)
        self._floors = np.pad(self._floors, more)

    def _complete(self, position: int) -> bool:
        return position < self._known.shape[1] and bool(self._known[self._state.open, position].all())

    def _look(self) -> list[Claim]:
        position, state = self.num_looks, self._state
        self.num_looks += 1
        self._looks[state.open] = self.num_looks
        here = np.flatnonzero(state.open & ~np.isnan(self._values[:, position]))
        values = self._values[here, position]
        if isinstance(state, Sides):
            return state.look(here, values, self._floors[here, position])
        better = values if self.rule.direction == "max" else -values
        return state.look(here, better, _covariance(self._items.pop(position, {}), here))

    def _intervals_of(self, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values = self._values[members, : self.num_looks].copy()
        values[np.arange(self.num_looks) >= self._looks[members, None]] = np.nan
        floors = np.where(np.isnan(values), 0, self._floors[members, : self.num_looks])
        widest = self.rule.bounds or (-np.inf, np.inf)
        return anytime_intervals(
            lambda shift: evidence_about(self.rule, shift), values, floors, self.rule.alpha, widest
        )


def _sampling_variance(member: int, position: int, items: np.ndarray) -> float:
    """Variance that drawing the items gives to their mean."""
    finite = bool(np.isfinite(items).all())
    require(finite, f"items of member {member}, seed position {position}", "…", "must all be finite numbers")
    return float(items.var(ddof=1)) / items.size


def _covariance(items: dict[int, np.ndarray], members: np.ndarray) -> np.ndarray | None:
    """Covariance that drawing the items gives to the members' means; ``None`` where one has no items."""
    rows = [items.get(int(member)) for member in members]
    if not rows or any(row is None for row in rows) or len({len(row) for row in rows if row is not None}) > 1:
        return None
    scores = np.stack([row for row in rows if row is not None])
    scores -= scores.mean(axis=1, keepdims=True)
    return np.asarray(scores @ scores.T / (scores.shape[1] * (scores.shape[1] - 1)))
