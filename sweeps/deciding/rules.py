"""What a race asks, and what it answers. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import get_args

from sweeps.spec.errors import choice, require
from sweeps.spec.search_rules import ErrorKind, EvidenceKind, Question

QUESTIONS, ERRORS, EVIDENCE = get_args(Question), get_args(ErrorKind), get_args(EvidenceKind)
DIRECTIONS = ("max", "min")

ABOVE, BELOW, WITHIN = "above", "below", "within"
BEATEN, BEST, TIED = "beaten", "best", "tied"
SIDES = {
    "above_base": (ABOVE, BELOW, WITHIN),
    "compare": (ABOVE, BELOW, WITHIN),
    "best": (BEATEN, BEST, TIED),
}
"""What a verdict says, by question."""


@dataclass(frozen=True, kw_only=True)
class RaceRule:
    """What a race asks and how sure it has to be.

    Raises:
        SpecError: for a value that no race can have.
    """

    question: str = "above_base"
    """``above_base``, ``compare``: on which side of zero is a mean difference; ``best``: which is best."""
    direction: str = "max"
    """Whether ``best`` is the largest or the smallest; the other questions name sides only."""
    rope: float = 0.0
    """Half-width of the region of practical equivalence about zero, in the unit of the values."""
    alpha: float = 0.05
    """Error rate over all members."""
    error: str = "fdr"
    """``fdr``: expected share of false verdicts among all; ``fwer``: probability of any false verdict.
    ``best`` has one true answer, so both are the probability that it is missed.
    """
    evidence: str = "t"
    """``t``: seeds' values are normal; ``bounded``: they lie within ``bounds``."""
    bounds: tuple[float, float] | None = None
    """Least and largest possible value, for ``bounded``; of differences where the question is about these."""
    min_seeds: int = 2
    """Seeds with a value that a member has before its verdict."""

    def __post_init__(self) -> None:
        choice("search.question", self.question, QUESTIONS)
        choice("search.direction", self.direction, DIRECTIONS)
        choice("search.error", self.error, ERRORS)
        choice("search.evidence", self.evidence, EVIDENCE)
        require(
            isfinite(self.rope) and self.rope >= 0, "search.rope", self.rope, "must be a number, 0 or more"
        )
        require(0 < self.alpha < 1, "search.alpha", self.alpha, "must lie between 0 and 1; 0.05 is usual")
        require(self.min_seeds >= 2, "search.min_seeds", self.min_seeds, "must be 2 or more")
        if self.bounds is not None:
            low, high = self.bounds
            ordered = isfinite(low) and isfinite(high) and low < high
            require(ordered, "search.bounds", self.bounds, "must be two finite numbers, the smaller first")
        elif self.evidence == "bounded":
            rule = 'evidence "bounded" needs the least and the largest possible value; or use "t"'
            require(False, "search.bounds", None, rule)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a look decides of one member."""

    member: int
    side: str
    log_evidence: float


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was decided of one member."""

    member: int
    side: str
    """``above``, ``below`` or ``within`` the region of practical equivalence; for ``best`` it is ``beaten``,
    ``best`` or ``tied``: within that region of the best one.
    """
    num_seeds: int
    """Seeds with a value that the verdict rests on."""
    log_evidence: float
    """Natural logarithm of the evidence: for ``above``, ``below`` and ``within`` of this claim alone, for
    ``beaten`` that of all others together, for ``best`` and ``tied`` that of the claim that ended the race.
    """
    low: float
    """Lower end of the member's anytime interval, as :meth:`sweeps.deciding.race.Race.interval` has it."""
    high: float
