"""Asks a sampler what to try next, and tells it what came of it. No file, clock or process is touched.

Optuna's samplers do the choosing; what they have been asked and told is all that they know. A proposal's
randomness comes from the search's seed and the proposal's number alone, so that the same questions and
answers in the same order give the same proposals, in whichever process.
"""

from __future__ import annotations

import hashlib
import math
import random
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sweeps.deciding.optuna_extra import optuna_for
from sweeps.grid.axes import Interval
from sweeps.grid.columns import spelling
from sweeps.grid.grid import DeclaredAxis
from sweeps.grid.space import Point, Space
from sweeps.spec.sampler_rules import SamplerSpec

if TYPE_CHECKING:
    import optuna

DIGITS = 4
"""Significant digits of a proposed number beyond those that its whole interval shares: names stay short."""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """One question and its answer."""

    number: int
    """Place among the proposals of a search, from 0."""
    point: Point
    asked: Mapping[str, float] = field(default_factory=dict)
    """What the sampler said, of the numbers that were rounded for the point."""


class Proposer:
    """A sampler over a space."""

    def __init__(self, space: Space, spec: SamplerSpec, *, maximize: bool) -> None:
        """Begin without a trial.

        Raises:
            SpecError: where Optuna, or what the sampler needs beside it, is not installed.
        """
        self._space, self._spec = space, spec
        self._next = 0
        self._study: optuna.Study | None = None
        self._numbers: dict[int, int] = {}
        """Number of each open proposal within the study."""
        if spec.kind != "random":
            self._suggests = optuna_for(f"search={spec.kind}", *(["cmaes"] if spec.kind == "cmaes" else []))
            direction = "maximize" if maximize else "minimize"
            self._study = self._suggests.create_study(direction=direction, sampler=self._sampler(0))

    @property
    def next_number(self) -> int:
        """Number of the next proposal."""
        return self._next

    def ask(self) -> Proposal:
        """The next proposal, which counts as being tried until it is told of."""
        number, self._next = self._next, self._next + 1
        if self._study is None:
            chosen = random.Random(f"{self._spec.seed}/{number}")
            return self._chosen(number, lambda a: _drawn(a, chosen))
        trial, proposal = self._ask(number)
        self._numbers[number] = trial.number
        return proposal

    def again(self, proposal: Proposal) -> None:
        """Take a proposal of an earlier life, in the place of the next one.

        Samplers whose state is more than their trials are asked once more.
        """
        number, self._next = proposal.number, proposal.number + 1
        if self._study is None:
            return
        if self._spec.kind in ("cmaes", "qmc"):
            trial, same = self._ask(number)
            if same.point == proposal.point:
                self._numbers[number] = trial.number
                return
            self._study.tell(trial.number, state=self._state("FAIL"))
        if not self._space.holds(proposal.point):
            return  # of a space that was another then
        there = [a for a in self._space.axes if a.key in proposal.point]
        params = {a.key: self._internal(a, proposal) for a in there}
        distributions = {a.key: self._of(a) for a in there}
        running = self._suggests.trial.create_trial(
            state=self._state("RUNNING"), params=params, distributions=distributions
        )
        self._study.add_trial(running)
        self._numbers[number] = len(self._study.get_trials(deepcopy=False)) - 1

    def tell(self, number: int, value: float | None, *, stopped: bool = False) -> None:
        """Tell what a proposal came to: its value, none that counts, or that it was stopped early."""
        if self._study is None or (own := self._numbers.pop(number, None)) is None:
            return
        if value is None:
            self._study.tell(own, state=self._state("PRUNED" if stopped else "FAIL"))
        else:
            self._study.tell(own, value)

    def _ask(self, number: int) -> tuple[optuna.Trial, Proposal]:
        assert self._study is not None
        self._study.sampler = self._sampler(number)
        trial = self._study.ask()

        def suggested(a: DeclaredAxis) -> Any:
            if a.interval is None:
                return trial.suggest_categorical(a.key, range(len(a.values)))
            suggest = trial.suggest_int if a.interval.is_whole else trial.suggest_float
            return suggest(a.key, a.interval.low, a.interval.high, log=a.interval.log)  # type: ignore[arg-type]

        return trial, self._chosen(number, suggested)

    def _chosen(self, number: int, suggested: Callable[[DeclaredAxis], Any]) -> Proposal:
        point: dict[str, Any] = {}
        asked: dict[str, float] = {}
        for a in self._space.axes:
            if a.when is not None and not a.when.matches(point):
                continue
            found = suggested(a)
            if a.interval is None:
                point[a.key] = a.values[found]
            elif a.interval.is_whole:
                point[a.key] = int(found)
            else:
                point[a.key] = rounded(float(found), a.interval)
                if point[a.key] != found:
                    asked[a.key] = float(found)
        return Proposal(number=number, point=point, asked=asked)

    def _internal(self, a: DeclaredAxis, proposal: Proposal) -> Any:
        value = proposal.point[a.key]
        if a.interval is None:
            return [spelling(v) for v in a.values].index(spelling(value))
        return proposal.asked.get(a.key, value)

    def _of(self, a: DeclaredAxis) -> Any:
        """What Optuna calls the axis's values."""
        distributions = self._suggests.distributions
        if a.interval is None:
            return distributions.CategoricalDistribution(range(len(a.values)))
        kind = distributions.IntDistribution if a.interval.is_whole else distributions.FloatDistribution
        return kind(a.interval.low, a.interval.high, log=a.interval.log)

    def _state(self, name: str) -> Any:
        return self._suggests.trial.TrialState[name]

    def _sampler(self, number: int) -> Any:
        """The sampler as it is for one proposal."""
        samplers, spec = self._suggests.samplers, self._spec
        seed = int.from_bytes(hashlib.sha256(f"{spec.seed}/{number}".encode()).digest()[:4])
        startup = {} if spec.startup is None else {"n_startup_trials": spec.startup}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a sampler is new to Optuna
            match spec.kind:
                case "tpe":
                    return samplers.TPESampler(seed=seed, constant_liar=True, **startup)
                case "gp":
                    return samplers.GPSampler(seed=seed, **startup)
                case "cmaes":
                    return samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False, **startup)
                case _:
                    return samplers.QMCSampler(
                        seed=spec.seed,
                        scramble=True,
                        warn_independent_sampling=False,
                        independent_sampler=samplers.RandomSampler(seed=seed),
                    )


def _drawn(a: DeclaredAxis, chosen: random.Random) -> Any:
    """A value at random, in the form in which a study suggests one."""
    if a.interval is None:
        return chosen.randrange(len(a.values))
    low, high = a.interval.low, a.interval.high
    if a.interval.is_whole:
        low, high = low - 0.5, high + 0.5
    found = (
        math.exp(chosen.uniform(math.log(low), math.log(high)))
        if a.interval.log
        else chosen.uniform(low, high)
    )
    return min(max(round(found), a.interval.low), a.interval.high) if a.interval.is_whole else found


def rounded(value: float, interval: Interval) -> float:
    """A number of the interval to :data:`DIGITS` digits of what tells its numbers apart."""
    if interval.log:
        spread = math.log(interval.high / interval.low)
        digits = DIGITS + max(0, math.ceil(-math.log10(spread)))
        found = float(f"{value:.{digits}g}")
    else:
        found = round(value, DIGITS - math.floor(math.log10(interval.high - interval.low)))
    return float(min(max(found, interval.low), interval.high))
