"""Counter-based randomness: a draw depends on what it is for, never on when or where it is drawn.

Every uniform is one output of Philox-4x64 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC
2011) whose key is (seed, stream) and whose counter holds the coordinates of the draw. So the noise of a
rollout is the same on one rank or eight, in a hot worker or a cold one, alone or beside others.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache

import numpy as np

from sweeps.sharing.row_schedule import ROW_STREAM

_TO_UNIT = 2.0**-53
"""Scales the top 53 bits of a 64-bit word to [0, 1)."""


class Stream(IntEnum):
    """Separates draws that share a seed but serve different ends."""

    ROLLOUT = 1
    EVALUATION = 2
    HALF = 3
    ADAPTER = 4
    DEALING = 5
    ROWS = ROW_STREAM
    CURATION = 7


def uniforms(seed: int, stream: Stream, step: int, position: int, num_rows: int) -> np.ndarray:
    """Draw one uniform per row.

    Args:
        step: Optimizer step for rollouts; index of the sample for evaluations, which share noise across
            steps.
        position: Index of the completion token being drawn.
        num_rows: Rows wanted; row i's number does not depend on how many are asked for.

    Returns:
        float64 of shape (num_rows,), in [0, 1).
    """
    bits = np.random.Philox(key=[seed, int(stream)], counter=[0, position, step, 0])
    return (bits.random_raw(num_rows) >> np.uint64(11)) * _TO_UNIT


@lru_cache(maxsize=512)
def shared_uniforms(seed: int, stream: Stream, step: int, position: int, num_rows: int) -> np.ndarray:
    """The same, remembered: runs of one seed ask for the same noise. To be read only."""
    drawn = uniforms(seed, stream, step, position, num_rows)
    drawn.flags.writeable = False
    return drawn
