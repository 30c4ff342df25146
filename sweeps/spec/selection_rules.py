"""Which problems of a pool are worth training on: rules that rank them. Pure.

A rule turns what is known of each problem into a score; problems with the highest scores are picked. Three
rules need no labels and no training: ``length``, ``random`` and, from the base model's own rollouts,
``entropy`` and ``majority_p1p``. Two read right answers: ``pass_variance`` (one-shot entropy minimization,
arXiv 2505.20282) and ``accuracy_std`` (one-shot RLVR, arXiv 2504.20571). They are a form of supervision, so
their label says ``-labelled`` wherever it is shown. ``boosting`` looks for hard problems that a weak signal
still finds solvable. Its rounds reweight which problems are tried next, as boosting does; each trial starts
from the base model, so that no round builds on another's training. Rounds that do are a way to train, not to
select: ``curate=escaping_collapse`` (:mod:`sweeps.spec.curation`).

Shapes: P problems of the pool, N rollouts of each, E passes of training over the pool.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sweeps.spec.errors import require


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """How a rule is fed."""

    about: str
    needs_model: bool = False
    """Whether a model draws rollouts."""
    needs_labels: bool = False
    """Whether right answers are read."""


RULES: dict[str, Rule] = {
    "length": Rule(about="characters of the prompt"),
    "random": Rule(about="a number drawn for the problem from the seed"),
    "entropy": Rule(about="mean token entropy of its rollouts, nats", needs_model=True),
    "majority_p1p": Rule(
        about="p(1 − p), p the share of rollouts that give the majority's answer", needs_model=True
    ),
    "pass_variance": Rule(about="variance of pass@k over rollouts", needs_model=True, needs_labels=True),
    "accuracy_std": Rule(
        about="standard deviation of its accuracy over passes of training",
        needs_model=True,
        needs_labels=True,
    ),
    "boosting": Rule(
        about="how often it failed a weak signal after entropy minimization on it alone, from the base model "
        "each time, if it is still solved at times",
        needs_model=True,
    ),
}
"""Rules by name."""


def label_of(rule: str, *, supervised: bool) -> str:
    """The rule's name as tables show it: with ``-labelled`` where right answers were read."""
    return f"{rule}-labelled" if supervised else rule


def top(scores_P: np.ndarray, num: int, *, lowest: bool = False) -> list[int]:
    """Return the problems with the ``num`` highest scores, best first; of equal ones the earlier comes first.

    A score that is not finite is never picked.
    """
    order = np.argsort(scores_P if lowest else -scores_P, kind="stable")
    return [int(i) for i in order if math.isfinite(scores_P[i])][:num]


def random_scores(ids: Sequence[str], seed: int) -> np.ndarray:
    """A number in [0, 1) for each problem by its own text, so that a reordered pool gives the same picks."""
    digests = (hashlib.sha256(f"{seed}\0{text}".encode()).digest() for text in ids)
    return np.array([int.from_bytes(d[:7], "big") / 2**56 for d in digests])


def majority_p1p(shares_P: np.ndarray) -> np.ndarray:
    """p(1 − p) of the majority's share: highest where rollouts are split, 0 where they all agree."""
    return np.asarray(shares_P * (1 - shares_P))


def pass_variance(correct_P: np.ndarray, num: int, k: int = 1) -> np.ndarray:
    """Variance of whether ``k`` of a problem's rollouts hold a right one, q(1 − q) with q = pass@k.

    Args:
        correct_P: right rollouts of each problem.
        num: rollouts of each problem, N.
        k: rollouts that count together.

    pass@k = 1 − C(N − c, k) / C(N, k), arXiv 2107.03374.
    """
    passed = np.array([1 - math.comb(num - int(c), k) / math.comb(num, k) for c in correct_P])
    return np.asarray(passed * (1 - passed))


def accuracy_std(accuracy_EP: np.ndarray) -> np.ndarray:
    """Standard deviation of each problem's accuracy over passes of training (population form)."""
    return np.asarray(accuracy_EP.std(axis=0))


@dataclass(frozen=True, kw_only=True, slots=True)
class WeakSignal:
    """A cheap judge of completions: a noisy filter, and a weak labeller for what it rejects."""

    gamma: float = 0.1
    """Probability that the filter's verdict on a completion is wrong."""
    beta: float = 0.5
    """Probability that the labeller sees a rejected completion for what it is; else it stays rejected."""

    def __post_init__(self) -> None:
        require(0 <= self.gamma < 0.5, "gamma", self.gamma, "must lie in [0, 0.5)")
        require(0 <= self.beta <= 1, "beta", self.beta, "must lie in [0, 1]")

    def passes(self, right_N: np.ndarray, uniform_2N: np.ndarray) -> np.ndarray:
        """Which completions pass, bool of shape (N,), from whether each is right and two draws in [0, 1)."""
        filtered_N = right_N ^ (uniform_2N[0] < self.gamma)
        return np.asarray(filtered_N | ((uniform_2N[1] < self.beta) & right_N))


@dataclass(frozen=True, kw_only=True, slots=True)
class Curation:
    """How the rounds of ``boosting`` go."""

    rounds: int = 4
    """Rounds of drawing, training and judging."""
    per_round: int = 8
    eta: float = 1.0
    """How strongly failures are preferred: a problem is drawn with weight exp(η · its failures)."""
    signal: WeakSignal = WeakSignal()

    def __post_init__(self) -> None:
        require(self.rounds >= 1, "rounds", self.rounds, "must be at least 1")
        require(self.per_round >= 1, "per_round", self.per_round, "must be at least 1")
        require(self.eta >= 0, "eta", self.eta, "must be at least 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class Curated:
    """What the rounds found."""

    scores_P: np.ndarray
    """Mean failures of each problem; NaN for one that was never drawn or never passed."""
    failures_P: np.ndarray
    rounds_P: np.ndarray
    """Rounds in which it was drawn."""


def curate(
    num: int, attempt: Callable[[int, int], np.ndarray], curation: Curation, rng: np.random.Generator
) -> Curated:
    """Reweight towards failures, round by round, and drop what never passes.

    Args:
        num: problems, P.
        attempt: given a problem and the round, trains on it alone and returns whether each completion is
            right, bool of shape (N,).
    """
    failures_P, rounds_P, alive_P = np.zeros(num), np.zeros(num, dtype=np.int64), np.ones(num, dtype=bool)
    for number in range(curation.rounds):
        weights_P = np.where(alive_P, np.exp(curation.eta * failures_P), 0.0)
        if not alive_P.any():
            break
        size = min(curation.per_round, int(alive_P.sum()))
        for problem in rng.choice(num, size, replace=False, p=weights_P / weights_P.sum()).tolist():
            right_N = attempt(problem, number)
            passed_N = curation.signal.passes(right_N, rng.random((2, len(right_N))))
            failures_P[problem] += 1 - passed_N.mean()
            rounds_P[problem] += 1
            alive_P[problem] = bool(passed_N.any())  # EM on what is never solved sharpens wrong answers
    drawn_P = alive_P & (rounds_P > 0)
    scores_P = np.where(drawn_P, failures_P / np.maximum(rounds_P, 1), np.nan)
    return Curated(scores_P=scores_P, failures_P=failures_P, rounds_P=rounds_P)
