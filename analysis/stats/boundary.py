"""Ends of intervals of shares, and of differences of shares, where right or wrong verdicts are few.

There a Student interval is too short: the sample's variance is small, or zero, just when the mean happens to
lie too close to the boundary. Two things are done, both by the score of the binomial (Wilson 1927):

- the variance is taken at the end of the interval instead of at the mean: with design effect D = v / (m(1−m))
  of the estimated variance v (Korn and Graubard 1998) the ends solve (m − p)² = t² D p(1−p), so that they
  stay between 0 and 1;
- the interval is not shorter than that of as many independent verdicts. Where they generalise over items and
  all wrong verdicts lie on a few of them, items that were not seen may be as bad: then each item counts as
  one verdict.

Where at least :data:`FEW` verdicts are of the rarer kind neither matters and the interval is Student's.
"""

from __future__ import annotations

import numpy as np
from scipy import special

FEW = 40.0
"""Verdicts of the rarer kind from which on a mean's skewness no longer moves its interval by more than a
twentieth."""

FEW_ITEMS = 8.0
"""Items that hold the rarer verdicts, as an effective number, below which each item counts as one verdict."""

FEW_CHANGED_ITEMS = 3.0
"""The same for a gain, whose changed verdicts may be of either sign and so rest on more items."""

FEW_CHANGED = 10.0
"""Net changed verdicts up to which a gain is not taken to be known better than its single verdicts tell."""


def share_ends(
    mean_G: np.ndarray,
    variance_G: np.ndarray,
    freedom_G: np.ndarray,
    floor_G: np.ndarray,
    level: float,
    *,
    rarer_G: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the interval of a share.

    Args:
        variance_G: squared standard error of the mean.
        freedom_G: its degrees of freedom.
        floor_G: least design effect, 1 over the number of verdicts that count as independent.
        rarer_G: number of verdicts of the rarer kind; by default the effective number.
    """
    spread_G = mean_G * (1 - mean_G)
    with np.errstate(invalid="ignore", divide="ignore"):
        design_G = np.where((spread_G > 0) & (variance_G > 0), variance_G / spread_G, 0.0)
        quantile_G = special.stdtrit(freedom_G, 0.5 + level / 2)
        half_G = quantile_G * np.sqrt(variance_G)
        if rarer_G is None:
            rarer_G = np.minimum(mean_G, 1 - mean_G) / np.maximum(design_G, floor_G)
    low_G, high_G = mean_G - half_G, mean_G + half_G
    near_G = rarer_G < FEW
    least = _score(mean_G, floor_G, special.ndtri(0.5 + level / 2))
    own = _score(mean_G, design_G, np.where(design_G > 0, quantile_G, 0.0))
    low_G = np.where(near_G, np.minimum(least[0], own[0]), low_G)
    high_G = np.where(near_G, np.maximum(least[1], own[1]), high_G)
    return np.clip(low_G, 0, 1), np.clip(high_G, 0, 1)


def _score(
    mean_G: np.ndarray, design_G: np.ndarray, quantile_G: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray]:
    weight_G = quantile_G**2 * design_G
    centre_G = (mean_G + weight_G / 2) / (1 + weight_G)
    half_G = np.sqrt(np.maximum(0.0, weight_G * mean_G * (1 - mean_G) + weight_G**2 / 4)) / (1 + weight_G)
    return centre_G - half_G, centre_G + half_G


def changed_error(gain_G: np.ndarray, verdicts_G: np.ndarray) -> np.ndarray:
    """Least standard error of a gain of which only the net change is known: that of as many changed verdicts,
    and one more.
    """
    size_G = np.abs(gain_G)
    error_G = np.sqrt(size_G + 1 / verdicts_G) / np.sqrt(verdicts_G)
    return np.where(size_G * verdicts_G < FEW_CHANGED, error_G, 0.0)


def discordant_error(
    gain_G: np.ndarray, discordant_G: np.ndarray, variance_G: np.ndarray, floor_G: np.ndarray
) -> np.ndarray:
    """Least standard error of a gain, given the share of verdict pairs that differ; 0 where they are many."""
    spread_G = np.maximum(0.0, discordant_G - gain_G**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        design_G = np.where(spread_G > 0, variance_G / spread_G, 0.0)
    near_G = discordant_G / np.maximum(design_G, floor_G) < FEW
    return np.where(near_G, np.sqrt((spread_G + floor_G) * floor_G), 0.0)


def item_floor(rarer_GI: np.ndarray, verdicts_G: np.ndarray, few_items: float = FEW_ITEMS) -> np.ndarray:
    """Least design effect over items: between one over the items and one over the verdicts.

    Args:
        rarer_GI: how often each item has the rarer verdict, or a changed one.
        few_items: effective number of items that hold them below which it is one over the items.
    """
    total_G, items = rarer_GI.sum(axis=1), rarer_GI.shape[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        holding_G = np.where(total_G > 0, total_G**2 / (rarer_GI**2).sum(axis=1), 0.0)
        alone_G = np.minimum(1.0, (few_items / np.maximum(holding_G, 1e-9)) ** 3) / items
    floor_G: np.ndarray = np.maximum(1 / verdicts_G, alone_G)
    return floor_G
