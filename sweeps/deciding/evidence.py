"""Evidence about a mean that may be read after every observation: e-values and confidence sequences. Pure.

An e-value has expectation at most 1 where its null holds, so it reaches 1/α with probability at most α; an
e-process stays one at any stop. Everything is in natural logarithms and takes arrays.

Letters: n observations X, their mean, ``variance`` = Σ(X - mean)²/n, μ the mean of the null.

The floor. ``variance`` may be raised, never lowered, before it enters the mixture: the evidence falls with it
at any n and mean, so evidence from a raised variance is below valid evidence and so valid itself. A
caller raises it to the sampling variance that the items of a benchmark give to one run's mean: two seeds that
agree to the last digit are then no proof.
"""

from __future__ import annotations

import numpy as np

PRECISION = 0.1
"""c² of the mixture: the effect, in units of the spread over seeds, is weighed as normal, variance 1/c²."""


def log_mixture(
    n: np.ndarray, deviation: np.ndarray, variance: np.ndarray, precision: float = PRECISION
) -> np.ndarray:
    """Log of the Gaussian-mixture t e-value, two-sided.

    √(c²/(n+c²)) · ((n+c²)V / ((n+c²)V - S²))^(n/2) with S = Σ(X-μ), V = Σ(X-μ)²; 1 where V = 0.
    Source: Wang and Ramdas, arXiv 2310.03722, theorem 4.9. For independent normal observations of unknown
    variance it is a test martingale in the filtration of X_i/|X_1|: it exceeds 1/α ever with probability at
    most α, whatever the stop, and its expectation is 1 at a fixed n or a stop that depends on these ratios
    alone.

    Args:
        n: observations.
        deviation: their mean less μ.
        variance: their variance about their own mean (divided by n), possibly raised.
    """
    n, deviation, variance = np.broadcast_arrays(n, deviation, variance)
    square, total = np.square(deviation), n + precision
    rest = variance + square * (precision / total)
    known = rest > 0
    gain = np.log1p(np.divide(square * (n / total), rest, out=np.zeros_like(rest, dtype=float), where=known))
    return np.where(known, 0.5 * (n * gain - np.log1p(n / precision)), 0.0)


def mixture_radius(
    n: np.ndarray, variance: np.ndarray, alpha: float, precision: float = PRECISION
) -> np.ndarray:
    """Half-width of the confidence sequence that inverts :func:`log_mixture`; at first infinite.

    With A = ((n+c²)/(α²c²))^(1/n): s·√((n+c²)(A-1)/(n+c²-Ac²)), infinite where Ac² ≥ n+c².
    It holds for all n at once with probability 1-α, so at any stop.
    """
    n, variance = np.broadcast_arrays(np.asarray(n, dtype=float), np.asarray(variance, dtype=float))
    total = n + precision
    growth = np.exp(np.log(total / (alpha**2 * precision)) / np.maximum(n, 1))
    room = total - growth * precision
    finite = (room > 0) & (n > 1)
    ratio = np.divide(total * (growth - 1), room, out=np.full(n.shape, np.inf), where=finite)
    return np.sqrt(np.where(finite, np.where(finite, ratio, 1.0) * variance, np.inf))
