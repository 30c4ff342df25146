"""From rewards to advantages, and from the advantages of equal rollouts to one credit for all of them.

Rewards are numbers on the host, the same on every rank, so advantages never depend on how rollouts are dealt
out to ranks and micro batches. Equal rollouts share one row of the forward: a policy-gradient loss is linear
in the advantage on either side of zero, so a row that carries the sum of its copies' positive advantages and
the sum of their negative ones gives exactly the loss and gradient of all copies, even where they stand in
different groups.

Shapes: R rollouts as drawn, D distinct ones, G rollouts of one group.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

STD_EPSILON = 1e-4
"""Added to a group's standard deviation, as TRL does."""

RATES = (0.02, 0.98)
"""Rates of right answers that NFT's authors compute with, other ones being moved there."""


def advantages(reward_R: np.ndarray, group_size: int, kind: str) -> np.ndarray:
    """Return each rollout's advantage, float64 of shape (R,).

    Args:
        reward_R: Rewards in the order drawn; each run of ``group_size`` is one group.
        kind: ``group``: (r − mean)/(std + ε), std over n − 1 (GRPO, arXiv 2402.03300); ``batch``: the same
            over the std of all R; ``center``: r − mean (Dr. GRPO, arXiv 2503.20783); ``loo``: r − mean of
            the others (RLOO, arXiv 2402.14740); ``rate``: 1 − q where r is 1, −q where it is 0 (NFT, arXiv
            2505.18116), q from :func:`rates`, and 0 in uniform groups; ``raw``: r itself.
    """
    grouped = reward_R.astype(np.float64).reshape(-1, group_size)
    if kind == "raw":
        return grouped.ravel()
    if kind == "loo":
        others = (grouped.sum(1, keepdims=True) - grouped) / (group_size - 1)
        return (grouped - others).ravel()
    if kind == "rate":
        telling_R = np.repeat(~uniform_groups(grouped, group_size), group_size)
        return (grouped.ravel() - rates(grouped, group_size)) * telling_R
    # Where all are equal, the mean may still be off by a rounding error, which 1/ε would blow up.
    centered = np.where(np.ptp(grouped, axis=1, keepdims=True) == 0, 0.0, grouped - grouped.mean(1)[:, None])
    if kind == "center":
        return centered.ravel()
    spread = grouped.std(1, ddof=1, keepdims=True) if kind == "group" else _std(grouped)
    return (centered / (spread + STD_EPSILON)).ravel()


def rates(reward_R: np.ndarray, group_size: int) -> np.ndarray:
    """The rate q of right answers in each rollout's group, within :data:`RATES`: float64 of shape (R,)."""
    return np.repeat(reward_R.reshape(-1, group_size).mean(1).clip(*RATES), group_size)


def _std(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if values.size > 1 else 0.0


def uniform_groups(reward_R: np.ndarray, group_size: int) -> np.ndarray:
    """Say which groups have nothing to tell, all rewards being equal: bool of shape (R/G,)."""
    return np.ptp(reward_R.reshape(-1, group_size), axis=1) == 0


@dataclass(frozen=True, kw_only=True)
class Credit:
    """What each distinct rollout is worth to a policy gradient, summed over its copies."""

    gain_D: np.ndarray
    """Sum of its copies' positive advantages."""
    cost_D: np.ndarray
    """Sum of its copies' negative advantages."""
    rate_D: np.ndarray | None = None
    """Rate of right answers to its prompt, where the loss reads it."""


def credit(advantage_R: np.ndarray, distinct_R: np.ndarray, *, positive_only: bool) -> Credit:
    """Sum advantages over equal rollouts.

    Args:
        distinct_R: Index of the distinct rollout that each one equals.
        positive_only: Leave negative advantages out.
    """
    num = int(distinct_R.max()) + 1
    gain_D = np.bincount(distinct_R, np.maximum(advantage_R, 0.0), num)
    cost_D = np.bincount(distinct_R, np.minimum(advantage_R, 0.0), num)
    return Credit(gain_D=gain_D, cost_D=np.zeros(num) if positive_only else cost_D)
