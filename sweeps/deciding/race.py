"""The state machine of a race over seeds: observations in any order in, verdicts out. Pure.

A race looks in rounds. Look r uses the first r seed positions of every member still in, and takes place
once all of these are known; a result that came early waits, and nobody waits for it: other runs of members
that are still in can be worked on meanwhile. What is decided at a look is a function of these observations
alone, so the order of arrival, a kill and a resume change neither a verdict nor its number of seeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import numpy as np

from sweeps.deciding.evidence import log_mixture, mixture_radius
from sweeps.deciding.multiplicity import benjamini_yekutieli, bonferroni
from sweeps.spec.errors import choice, require

QUESTIONS = ("above_base", "best", "compare")
ERRORS = ("fdr", "fwer")
EVIDENCE = ("t", "bounded")
DIRECTIONS = ("max", "min")

ABOVE, BELOW, WITHIN = "above", "below", "within"


@dataclass(frozen=True, kw_only=True)
class RaceRule:
    """What a race asks and how sure it has to be."""

    question: str = "above_base"
    """``above_base``, ``compare``: on which side of zero is a mean difference; ``best``: which is best."""
    direction: str = "max"
    """Whether ``best`` is the largest or the smallest; the other questions name sides only."""
    rope: float = 0.0
    """Half-width of the region of practical equivalence about zero, in the unit of the values."""
    alpha: float = 0.05
    """Error rate over all members."""
    error: str = "fdr"
    """``fdr``: expected share of false verdicts among all; ``fwer``: probability of any false verdict."""
    evidence: str = "t"
    """``t``: seeds' values are normal; ``bounded``: they lie within ``bounds``."""
    bounds: tuple[float, float] | None = None
    """Least and largest possible value, for ``bounded``; of differences where the question is about these."""
    min_seeds: int = 2
    """Seeds with a value that a member has before its first verdict."""

    def __post_init__(self) -> None:
        choice("search.question", self.question, QUESTIONS)
        choice("search.direction", self.direction, DIRECTIONS)
        choice("search.error", self.error, ERRORS)
        choice("search.evidence", self.evidence, EVIDENCE)
        rope, alpha = self.rope, self.alpha
        require(isfinite(rope) and rope >= 0, "search.rope", rope, "must be a number from 0 on")
        require(0 < alpha < 1, "search.alpha", alpha, "must lie between 0 and 1; 0.05 is usual")
        require(self.min_seeds >= 2, "search.min_seeds", self.min_seeds, "must be 2 or more")
        if self.bounds is not None:
            low, high = self.bounds
            ordered = isfinite(low) and isfinite(high) and low < high
            require(ordered, "search.bounds", self.bounds, "must be two finite numbers, the smaller first")
        if self.evidence == "bounded":
            require(self.bounds is not None, "search.bounds", None, "bounded evidence needs a range")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was decided of one member."""

    member: int
    side: str
    """``above``, ``below`` or ``within`` the region of practical equivalence."""
    num_seeds: int
    """Seeds with a value that the verdict rests on."""
    log_evidence: float
    """Natural logarithm of the evidence for it."""
    low: float
    """Lower end of the anytime interval at the verdict; level ``1 - alpha`` for this member alone."""
    high: float


class Race:
    """Observations of members by seed position; verdicts as soon as all that they need is known."""

    def __init__(self, num_members: int, rule: RaceRule) -> None:
        require(num_members >= 1, "members", num_members, "a race needs at least one member")
        if rule.question == "best" or rule.evidence == "bounded":
            raise NotImplementedError(f"{rule.question} by {rule.evidence}")
        self.rule = rule
        self.num_members = num_members
        self.num_looks = 0
        """Looks taken: every member still in has this many positions known."""
        self._known = np.zeros((num_members, 0), dtype=bool)
        self._values = np.zeros((num_members, 0))
        self._floors = np.zeros((num_members, 0))
        self._open = np.ones(num_members, dtype=bool)
        self._n = np.zeros(num_members, dtype=np.int64)
        self._mean = np.zeros(num_members)
        self._squares = np.zeros(num_members)
        self._floor_sum = np.zeros(num_members)
        self._log_sup = np.zeros((num_members, 3))
        self._low = np.full(num_members, -np.inf)
        self._high = np.full(num_members, np.inf)

    def is_open(self, member: int) -> bool:
        """Whether the member is undecided, so that its next seeds are worth running."""
        return bool(self._open[member])

    def open_members(self) -> list[int]:
        """Members that are undecided, in order."""
        return [int(member) for member in np.flatnonzero(self._open)]

    def add(self, member: int, position: int, value: float | None, items: np.ndarray | None = None) -> None:
        """Add what one seed gave; the same once more changes nothing.

        Args:
            member: from 0 to ``num_members - 1``.
            position: of the seed in seed order, from 0.
            value: the member's value, or its paired difference; ``None`` if this seed will never have one.
            items: the run's score, or difference of scores, by item; their sampling variance is the least
                spread that a seed's value is taken to have.

        Raises:
            SpecError: for a value or an item that is not finite, or beyond ``bounds``.
            ValueError: for another value than the one already known.
        """
        if not 0 <= member < self.num_members or position < 0:
            raise ValueError(f"member {member}, position {position}: there is no such place")
        number, floor = np.nan, 0.0
        if value is not None:
            number = float(value)
            rule = "a run whose value is not a number has to be stated as one, or as None where it has none"
            require(isfinite(number), f"value of member {member}, seed position {position}", value, rule)
            if self.rule.bounds is not None:
                low, high = self.rule.bounds
                inside = f"must lie within search.bounds={self.rule.bounds}"
                require(low <= number <= high, "value", number, inside)
            floor = _sampling_variance(items)
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

    def decide(self) -> list[Verdict]:
        """Verdicts since the last call, look by look, by member within a look."""
        verdicts: list[Verdict] = []
        while self._open.any() and self._complete(self.num_looks):
            verdicts += self._look()
        return verdicts

    def interval(self, member: int) -> tuple[float, float]:
        """The member's anytime interval as of the last look that it took part in.

        It holds the member's mean with probability ``1 - alpha`` at whatever time it is read, for this member
        alone; it is the intersection of the confidence sequence so far.
        """
        return float(self._low[member]), float(self._high[member])

    def _grow(self, num_positions: int) -> None:
        more = ((0, 0), (0, num_positions - self._known.shape[1]))
        self._known = np.pad(self._known, more)
        self._values = np.pad(self._values, more)
        self._floors = np.pad(self._floors, more)

    def _complete(self, position: int) -> bool:
        return position < self._known.shape[1] and bool(self._known[self._open, position].all())

    def _look(self) -> list[Verdict]:
        position = self.num_looks
        self.num_looks += 1
        here = np.flatnonzero(self._open & ~np.isnan(self._values[:, position]))
        value, rule = self._values[here, position], self.rule
        self._n[here] += 1
        n = self._n[here]
        step = value - self._mean[here]
        self._mean[here] += step / n
        self._squares[here] += step * (value - self._mean[here])
        self._floor_sum[here] += self._floors[here, position]
        mean, variance = self._mean[here], np.maximum(self._squares[here], self._floor_sum[here]) / n
        nearest = np.stack(
            [
                np.maximum(mean - rule.rope, 0),
                np.maximum(-rule.rope - mean, 0),
                np.maximum(rule.rope - np.abs(mean), 0),
            ],
            axis=1,
        )
        log_e = log_mixture(n[:, None], nearest, variance[:, None])
        self._log_sup[here] = np.maximum(self._log_sup[here], log_e)
        radius = mixture_radius(n, variance, rule.alpha)
        self._low[here] = np.maximum(self._low[here], mean - radius)
        self._high[here] = np.minimum(self._high[here], mean + radius)
        return self._claim()

    def _claim(self) -> list[Verdict]:
        rule = self.rule
        best = self._log_sup.max(axis=1)
        claimed = (benjamini_yekutieli if rule.error == "fdr" else bonferroni)(best, rule.alpha)
        leaving = np.flatnonzero(claimed & self._open & (self._n >= rule.min_seeds))
        self._open[leaving] = False
        sides = self._log_sup.argmax(axis=1)
        return [
            Verdict(
                member=int(member),
                side=(ABOVE, BELOW, WITHIN)[sides[member]],
                num_seeds=int(self._n[member]),
                log_evidence=float(best[member]),
                low=float(self._low[member]),
                high=float(self._high[member]),
            )
            for member in leaving
        ]


def _sampling_variance(items: np.ndarray | None) -> float:
    """Variance that drawing the items gives to their mean; 0 where nothing is known of items."""
    if items is None or np.size(items) < 2:
        return 0.0
    items = np.asarray(items, dtype=float)
    require(bool(np.isfinite(items).all()), "items", float(items.sum()), "every item needs a finite score")
    return float(items.var(ddof=1)) / items.size
