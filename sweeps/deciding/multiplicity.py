"""Which of many cells may be claimed at once. Pure; all evidence in natural logarithms.

A cell's evidence is that of its strongest claim; a false claim has at most the evidence that the cell's true
mean has against itself, whose running supremum exceeds x with probability at most 1/x.
"""

from __future__ import annotations

import numpy as np


def e_benjamini_hochberg(log_e_K: np.ndarray, alpha: float) -> np.ndarray:
    """The e-BH set: the k* largest, k* = max{k: e_(k) ≥ K/(αk)}.

    The false discovery rate is at most α under any dependence where every e-value has expectation at most 1
    at the stop. Source: Wang and Ramdas, arXiv 2009.02824.
    """
    return _step_up(log_e_K, -np.log(alpha * np.arange(1, len(log_e_K) + 1) / max(1, len(log_e_K))))


def benjamini_yekutieli(log_sup_K: np.ndarray, alpha: float) -> np.ndarray:
    """The Benjamini-Yekutieli set on p = 1/sup, sup being the running supremum of a test martingale.

    The false discovery rate is at most α under any dependence and at any stop, since p is a p-value at every
    time at once. Source: Benjamini and Yekutieli (2001), Annals of Statistics 29, theorem 1.3.
    """
    ranks = np.arange(1, len(log_sup_K) + 1)
    harmonic = float((1 / ranks).sum())
    return _step_up(log_sup_K, np.log(len(log_sup_K) * harmonic / alpha) - np.log(ranks))


def bonferroni(log_sup_K: np.ndarray, alpha: float) -> np.ndarray:
    """Those with p = 1/sup at most α/K: with probability 1-α no claim is false, whatever the dependence."""
    return np.asarray(log_sup_K >= np.log(len(log_sup_K) / alpha))


def _step_up(log_e_K: np.ndarray, thresholds_K: np.ndarray) -> np.ndarray:
    """The k largest, for the largest k whose k-th largest reaches the k-th threshold."""
    ordered_K = np.sort(log_e_K)[::-1]
    reached = np.flatnonzero(ordered_K >= thresholds_K)
    if not len(reached):
        return np.zeros(len(log_e_K), dtype=bool)
    return np.asarray(log_e_K >= ordered_K[reached[-1]])
