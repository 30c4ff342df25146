"""What a round of curation keeps, drops and has labelled: pure functions of verdicts and draws.

Shapes: P prompts of a round, k completions of each, R = P · k completions, prompt by prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sweeps.spec.curation import CurateSpec


@dataclass(frozen=True, kw_only=True)
class Draws:
    """The random numbers of a round, each uniform in [0, 1)."""

    flip_R: np.ndarray
    label_P: np.ndarray
    other_P: np.ndarray
    """Choose the prompt whose completion is given in the place of the right one."""


@dataclass(frozen=True, kw_only=True)
class Curated:
    """What becomes of a round's completions and prompts."""

    kept_R: np.ndarray
    """Completions that are trained on, bool."""
    failed_P: np.ndarray
    """Prompts none of whose completions was kept, bool."""
    mended_P: np.ndarray
    """Failed prompts whose right completion is trained on, bool."""
    misled_P: np.ndarray
    """Failed prompts for which the completion of another prompt is trained on: its place among the P, int64;
    −1 otherwise.
    """


def curate(curate: CurateSpec, right_R: np.ndarray, answers_P: Sequence[str | None], draws: Draws) -> Curated:
    """Filter a round's completions and label the prompts that failed.

    Args:
        curate: how.
        right_R: whether each completion's answer is right, bool of shape (R,).
        answers_P: the right answers; one that is another's too is never given as the wrong one.
        draws: the round's random numbers.
    """
    kept_R = np.ones_like(right_R) if curate.name == "uncurated" else right_R ^ (draws.flip_R < curate.gamma)
    failed_P: np.ndarray = ~np.any(kept_R.reshape(-1, curate.completions), axis=1)
    mended_P = failed_P & (draws.label_P < curate.beta)
    misled_P = np.full(len(failed_P), -1, dtype=np.int64)
    if curate.otherwise == "wrong":
        for place in np.flatnonzero(failed_P & ~mended_P).tolist():
            misled_P[place] = _other(place, float(draws.other_P[place]), answers_P)
    return Curated(kept_R=kept_R, failed_P=failed_P, mended_P=mended_P, misled_P=misled_P)


def _other(place: int, draw: float, answers_P: Sequence[str | None]) -> int:
    """The first prompt with another answer, from a random one on in a circle; −1 where all have the same."""
    start, num = int(draw * len(answers_P)), len(answers_P)
    circle = ((start + step) % num for step in range(num))
    return next((other for other in circle if answers_P[other] != answers_P[place]), -1)
