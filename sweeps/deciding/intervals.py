"""Confidence sequences that invert the evidence of a race: no interval contradicts a verdict. Pure.

Letters: S the two sides, M members, P seed positions, G points that are tried at once.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sweeps.deciding.evidence import Evidence

DISTANCES = 4.0 ** np.arange(20)
"""Distances from the mean, in spreads, at which the search for an end begins: up to 10¹¹."""

PARTS, ROUNDS = 8, 9
"""The stretch that holds an end is cut into so many parts, so often: to 10⁻⁸ of its length."""


def anytime_intervals(
    make: Callable[[np.ndarray], Evidence],
    values_MP: np.ndarray,
    floors_MP: np.ndarray,
    alpha: float,
    widest: tuple[float, float] = (-np.inf, np.inf),
) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the sets of means against which neither side has evidence of 2/α.

    Each holds its mean with probability 1 - α at any time that it is looked at, whatever decides about that
    time.

    Args:
        make: evidence about means against given shifts.
        values_MP: values by member and seed position, NaN where a seed has none.
        floors_MP: their floors.
        alpha: one less the level.
        widest: ends where nothing is known.

    Returns:
        Lower and upper ends, one a member.
    """
    given_MP = ~np.isnan(values_MP)
    num_M = np.maximum(given_MP.sum(axis=1), 1)
    mean_M = np.where(given_MP, values_MP, 0).sum(axis=1) / num_M
    squares_MP = np.where(given_MP, np.square(values_MP - mean_M[:, None]) + floors_MP, 0)
    least_M = 1e-12 * np.maximum(np.abs(mean_M), 1e-12)
    spread_M = np.maximum(np.sqrt(squares_MP.sum(axis=1) / num_M), least_M)
    side_S = np.array([-1.0, 1.0])[:, None, None]
    threshold = np.log(2 / alpha)

    def rejected(shift_SMG: np.ndarray) -> np.ndarray:
        shape = shift_SMG.shape
        evidence = make(shift_SMG.ravel())
        for position in range(values_MP.shape[1]):
            here = np.flatnonzero(np.broadcast_to(given_MP[:, position, None], shape))
            value, floor = (
                np.broadcast_to(column_MP[:, position, None], shape).ravel()[here]
                for column_MP in (values_MP, floors_MP)
            )
            evidence.update(here, value, floor)
        sides = [evidence.above_E.reshape(shape)[0], evidence.below_E.reshape(shape)[1]]
        return np.asarray(np.stack(sides) >= threshold)

    shift_SMG = mean_M[:, None] + side_S * spread_M[:, None] * DISTANCES
    kept_SM = np.broadcast_to(mean_M, shift_SMG.shape[:2])
    kept_SM, out_SM, found_SM = _first(rejected(shift_SMG), shift_SMG, kept_SM)
    for _ in range(ROUNDS):
        shares_G = np.arange(1, PARTS + 1) / PARTS
        shift_SMG = kept_SM[..., None] + (out_SM - kept_SM)[..., None] * shares_G
        shift_SMG[..., -1] = out_SM
        kept_SM, out_SM, _ = _first(rejected(shift_SMG), shift_SMG, kept_SM)
    low_M, high_M = np.where(found_SM, out_SM, side_S[..., 0] * np.inf)
    return np.maximum(low_M, widest[0]), np.minimum(high_M, widest[1])


def _first(
    rejected_SMG: np.ndarray, shift_SMG: np.ndarray, kept_SM: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The last point kept before the first one rejected, that one, and whether there is one."""
    found_SM = np.asarray(rejected_SMG.any(axis=-1))
    first_SM = rejected_SMG.argmax(axis=-1)
    out_SM = np.take_along_axis(shift_SMG, first_SM[..., None], axis=-1)[..., 0]
    before_SM = np.take_along_axis(shift_SMG, np.maximum(first_SM - 1, 0)[..., None], axis=-1)[..., 0]
    return np.where(first_SM > 0, before_SM, kept_SM), out_SM, found_SM
