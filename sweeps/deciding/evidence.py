"""Evidence about means that may be read after every observation. Pure.

An e-value has expectation at most 1 where its null holds, so it reaches 1/α with probability at most α. An
e-process is one at every stop, also at a stop that looks at other cells, as those of a race do: so sums over
cells and false discovery rates hold. The kinds here keep, for the mean μ of each of E elements,

``above_E``  logs of e-processes of the nulls μ ≤ shift: large where the mean lies above
``below_E``  logs of e-processes of the nulls μ ≥ shift

for observations that are independent over seeds; what the elements have in common within a seed may be
anything.

Values of a run are means over items, or differences of such; the single answers, 0 or 1, are not for these.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from scipy import special

TILT = 2.0
"""Tilt of the sign bet: near the best for a mean of one to three standard deviations."""

SHAPE = 2.0
"""Shape of the inverse-gamma guess of the variance before it is seen: worth four observations."""

GUESSED_EFFECT = 5.0
"""Mean, in units of the spread, guessed from a first observation whose items do not say the spread."""


class Evidence(Protocol):
    """Evidence that grows by an observation a seed."""

    above_E: np.ndarray
    below_E: np.ndarray

    def update(self, elements: np.ndarray, values: np.ndarray, floors: np.ndarray) -> None:
        """Take the next value, and its floor, of each of the ``elements`` named by index."""


class SignEvidence:
    """E-processes for observations that are symmetric about their mean and fall off from there: a sign bet.

    The product of e^(θz)/cosh(θz), with z the observation less the shift over the root mean square of those
    so far. Given the sizes, both signs are as likely where the mean is the shift, and the one that wins is
    less likely for a mean in the null, so each factor has expectation at most 1, whatever mean of the null
    the others have. It needs no variance, and at most doubles with a seed: equal values are never infinite
    evidence. Source: Ramdas, Ruf, Larsson and Koolen, arXiv 2009.03167, on symmetric distributions.
    """

    def __init__(self, shift_E: np.ndarray) -> None:
        size = len(shift_E)
        self._shift_E = shift_E
        self._num_E = np.zeros(size, dtype=np.int64)
        self._squares_E = np.zeros(size)
        self.above_E, self.below_E = np.zeros(size), np.zeros(size)

    def update(self, elements: np.ndarray, values: np.ndarray, floors: np.ndarray) -> None:
        """Take the next value of each of the ``elements`` named by index; floors are not used."""
        x = values - self._shift_E[elements]
        self._num_E[elements] += 1
        self._squares_E[elements] += x * x
        scale = np.sqrt(self._squares_E[elements] / self._num_E[elements])
        z = np.divide(x, scale, out=np.zeros_like(x), where=scale > 0)
        self.above_E[elements] += np.log(2) - np.logaddexp(0, -2 * TILT * z)
        self.below_E[elements] += np.log(2) - np.logaddexp(0, 2 * TILT * z)


class NormalEvidence:
    """E-processes for normal observations of unknown variance: a sign bet and universal inference, averaged.

    *The sign bet* is :class:`SignEvidence`.

    *Universal inference* divides the density that earlier observations predict for each one after the first
    by the largest likelihood of these that any mean in the null and any variance reach. The variance at
    that maximum is taken about the shift, or about the observations' own mean where this lies in the null.
    Source: Wasserman, Ramdas and Balakrishnan, arXiv 1912.11436; Wang and Ramdas, arXiv 2310.03722, theorem
    3.2. What is predicted is Student's t of a normal-inverse-gamma guess that starts from the first
    observation.

    *The floor* of a seed is the sampling variance that the items of a benchmark give to its value. No
    predicted variance is below the mean of the floors so far, those of earlier seeds: as these are known
    beforehand, the e-process stays one, and a spread that happens to be small over a few seeds is no proof.
    """

    def __init__(self, shift_E: np.ndarray) -> None:
        size = len(shift_E)
        self._shift_E = shift_E
        self._signs = SignEvidence(shift_E)
        self._used_E = np.zeros(size, dtype=np.int64)
        self._centre_E, self._rate_E, self._floors_E = np.zeros(size), np.zeros(size), np.zeros(size)
        self._log_predicted_E = np.zeros(size)
        self._mean_E, self._about_mean_E = np.zeros(size), np.zeros(size)
        self.above_E, self.below_E = np.zeros(size), np.zeros(size)

    def update(self, elements: np.ndarray, values: np.ndarray, floors: np.ndarray) -> None:
        """Take the next value, and its floor, of each of the ``elements`` named by index."""
        self._signs.update(elements, values, floors)
        above, below = self._infer(elements, values - self._shift_E[elements], floors)
        self.above_E[elements] = np.logaddexp(self._signs.above_E[elements], above) - np.log(2)
        self.below_E[elements] = np.logaddexp(self._signs.below_E[elements], below) - np.log(2)

    def _infer(
        self, elements: np.ndarray, x: np.ndarray, floors: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Logs of the likelihood ratios against means up to the shift and from it on."""
        used = self._used_E[elements]
        begun = used > 0
        guess = SHAPE * np.where(floors > 0, floors, np.square(x / GUESSED_EFFECT))
        begins = elements[~begun & (guess > 0)]
        self._predict(elements[begun], x[begun], floors[begun])
        starts = ~begun & (guess > 0)
        self._centre_E[begins], self._rate_E[begins] = x[starts], guess[starts]
        self._floors_E[begins], self._used_E[begins] = floors[starts], 1

        mean, about_mean = self._mean_E[elements], self._about_mean_E[elements]
        later = np.maximum(self._used_E[elements] - 1, 0)
        about_shift = about_mean + later * mean * mean
        ratios = []
        for in_null in (mean <= 0, mean >= 0):
            variance = np.where(in_null, about_mean, about_shift) / np.maximum(later, 1)
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = self._log_predicted_E[elements] + 0.5 * later * (np.log(2 * np.pi * variance) + 1)
            ratios.append(np.where(later > 0, ratio, 0.0))
        return ratios[0], ratios[1]

    def _predict(self, elements: np.ndarray, x: np.ndarray, floors: np.ndarray) -> None:
        """Multiply by the density predicted for these observations, then learn from them."""
        used, centre = self._used_E[elements], self._centre_E[elements]
        shape = SHAPE + 0.5 * (used - 1)
        variance = np.maximum(self._rate_E[elements] / shape, self._floors_E[elements] / used)
        step = x - centre
        self._log_predicted_E[elements] += _log_student(step, 2 * shape, variance * (used + 1) / used)
        self._rate_E[elements] += 0.5 * step * step * used / (used + 1)
        self._centre_E[elements] += step / (used + 1)
        self._floors_E[elements] += floors
        self._used_E[elements] += 1
        before = self._mean_E[elements]
        self._mean_E[elements] += (x - before) / used
        self._about_mean_E[elements] += (x - before) * (x - self._mean_E[elements])


class BettingEvidence:
    """E-processes for observations within bounds, whatever their distribution: bets on each, in a row.

    Products of 1 ± λ(X - m) with values and shift m scaled to [0, 1], λ the predictable plug-in √(2
    log(2/α)/(t log(1+t) σ̂²)), no more than half of what could lose everything. Source: Waudby-Smith and
    Ramdas, arXiv 2010.09686, section 4; the estimates are those of ``confseq``. Only the mean given the
    past is asked to be constant. The price: over a dozen seeds it sees next to nothing.
    """

    def __init__(self, shift_E: np.ndarray, bounds: tuple[float, float], alpha: float) -> None:
        size = len(shift_E)
        self._low, self._width = bounds[0], bounds[1] - bounds[0]
        self._shift_E = np.clip((shift_E - self._low) / self._width, 0, 1)
        self._bet = float(np.sqrt(2 * np.log(2 / alpha)))
        self._num_E = np.zeros(size, dtype=np.int64)
        self._sum_E, self._squares_E = np.full(size, 0.5), np.full(size, 0.25)
        self.above_E, self.below_E = np.zeros(size), np.zeros(size)

    def update(self, elements: np.ndarray, values: np.ndarray, floors: np.ndarray) -> None:
        """Take the next value of each of the ``elements`` named by index; floors are not used."""
        x, shift = (values - self._low) / self._width, self._shift_E[elements]
        num = self._num_E[elements] + 1
        variance = self._squares_E[elements] / num
        bet = self._bet / np.sqrt(num * np.log1p(num) * variance)
        with np.errstate(divide="ignore"):
            up, down = np.minimum(bet, 0.5 / shift), np.minimum(bet, 0.5 / (1 - shift))
        self.above_E[elements] += np.log1p(up * (x - shift))
        self.below_E[elements] += np.log1p(-down * (x - shift))
        self._num_E[elements] = num
        self._sum_E[elements] += x
        self._squares_E[elements] += np.square(x - self._sum_E[elements] / (num + 1))


def _log_student(step: np.ndarray, freedom: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Log density of Student's t with a squared scale ``variance``, ``step`` from its centre."""
    half = 0.5 * freedom
    norm = special.gammaln(half + 0.5) - special.gammaln(half) - 0.5 * np.log(np.pi * freedom * variance)
    return np.asarray(norm - (half + 0.5) * np.log1p(step * step / (freedom * variance)))
