"""Which member is best, by the evidence that each pair of members gives. Pure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sweeps.deciding.rules import BEATEN, BEST, TIED, Claim, RaceRule
from sweeps.deciding.sides import evidence_about, sign_evidence
from sweeps.spec.errors import require

MOST_MEMBERS = 2000
"""Members whose pairs are kept: two million pairs take 350 MB."""


class Best:
    """Claims that members are beaten, until one is left or all that are left are equivalent.

    A member k is beaten when its evidence reaches 1/α: the mean of two, that of the evidence μ_j > μ_k over
    all others j, and that of signs against the member that led before each seed. If k is the best, every
    one of these has a true null, so their mean is an e-process and reaches 1/α with probability at most α:
    as only the best one's nulls are all true, nothing has to be corrected for the number of members. It
    takes e-processes at any stop: those of pairs that others' leaving has stopped take part with what they
    had. Source, without the second: Arnold, Gavrilopoulos, Schulz and Ziegel, arXiv 2404.18678. The second
    is paid for once and not by each pair, so that it tells the last contenders apart.

    With a region of equivalence, members are ``tied`` once each pair of those left has evidence of 2(K - 1)/α
    against a difference of at least its half-width, and beaten at 2/α: half of α each.
    """

    def __init__(self, num_members: int, rule: RaceRule) -> None:
        rule_of_two = 'two members or more are needed to ask for the best; ask "above_base" of one'
        require(num_members >= 2, "search.question", "best", rule_of_two)
        too_many = f"{num_members:,} cells have too many pairs: {MOST_MEMBERS:,} is the most; choose fewer"
        require(num_members <= MOST_MEMBERS, "search.question", "best", too_many)
        self.open = np.ones(num_members, dtype=bool)
        self._rule = rule
        self._first, self._second = np.triu_indices(num_members, 1)
        bounds = rule.bounds and (rule.bounds[0] - rule.bounds[1], rule.bounds[1] - rule.bounds[0])
        of_pairs = replace(rule, bounds=bounds)
        shifts = [0.0, rule.rope, -rule.rope] if rule.rope > 0 else [0.0]
        self._even, *self._apart = (
            evidence_about(of_pairs, np.full(len(self._first), shift)) for shift in shifts
        )
        self._behind = sign_evidence(of_pairs, np.zeros(num_members))
        self._sum = np.zeros(num_members)
        self._num = np.zeros(num_members, dtype=np.int64)

    def leave(self, member: int, log_evidence: float) -> None:
        """Count a claim that was made elsewhere."""
        self.open[member] = False

    def look(self, members: np.ndarray, values: np.ndarray, covariance: np.ndarray | None) -> list[Claim]:
        """Take the next value of each of the open ``members`` that have one, and claim what can be claimed.

        Args:
            members: their indices, ascending.
            values: their values, larger is better.
            covariance: sampling covariance that the items give to these values, shape (members, members).
        """
        num_members = len(self.open)
        self._follow(members, values)
        self._num[members] += 1
        self._sum[members] += values
        place = np.full(num_members, -1)
        place[members] = np.arange(len(members))
        first, second = place[self._first], place[self._second]
        pairs = np.flatnonzero((first >= 0) & (second >= 0))
        first, second = first[pairs], second[pairs]
        floors = np.zeros(len(pairs))
        if covariance is not None:
            own = np.diagonal(covariance)
            floors = np.maximum(own[first] + own[second] - 2 * covariance[first, second], 0)
        for evidence in (self._even, *self._apart):
            evidence.update(pairs, values[first] - values[second], floors)
        return self._claims()

    def _follow(self, members: np.ndarray, values: np.ndarray) -> None:
        """Hold each member against the one, of the others, that led before this seed."""
        mean = np.full(len(self.open), -np.inf)
        np.divide(self._sum, self._num, out=mean, where=self._num > 0)
        led = members[np.argsort(-mean[members], kind="stable")][:2]
        if len(led) < 2 or (self._num[led] == 0).any():
            return
        leader = np.where(members == led[0], led[1], led[0])
        ahead = values[np.searchsorted(members, leader)] - values
        self._behind.update(members, ahead, np.zeros(len(members)))

    def _claims(self) -> list[Claim]:
        rule, num_members = self._rule, len(self.open)
        against = np.full((num_members, num_members), -np.inf)
        against[self._second, self._first] = self._even.above_E
        against[self._first, self._second] = self._even.below_E
        top = against.max(axis=1)
        log_mean = top + np.log(np.exp(against - top[:, None]).sum(axis=1) / (num_members - 1))
        log_e = np.logaddexp(log_mean, self._behind.above_E) - np.log(2)
        half = np.log(2) if rule.rope > 0 else 0.0
        ripe = self.open & (self._num >= rule.min_seeds)
        beaten = np.flatnonzero(ripe & (log_e >= half - np.log(rule.alpha)))
        if len(beaten) == self.open.sum():
            beaten = np.delete(beaten, log_e[beaten].argmin())
        self.open[beaten] = False
        claims = [Claim(member=int(k), side=BEATEN, log_evidence=float(log_e[k])) for k in beaten]
        left = np.flatnonzero(self.open)
        if len(left) == 1:
            evidence = log_e[beaten].min() if len(beaten) else half - np.log(rule.alpha)
            claims.append(Claim(member=int(left[0]), side=BEST, log_evidence=float(evidence)))
        elif self._apart and (self._num[left] >= rule.min_seeds).all():
            pairs = np.flatnonzero(self.open[self._first] & self.open[self._second])
            near = np.minimum(self._apart[0].below_E[pairs], self._apart[1].above_E[pairs]).min()
            if near >= np.log(2 * (num_members - 1) / rule.alpha):
                claims += [Claim(member=int(k), side=TIED, log_evidence=float(near)) for k in left]
        for claim in claims:
            self.open[claim.member] = False
        return claims
