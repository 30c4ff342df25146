"""The estimator over seeds by a dense fit of cells and seeds, as a second opinion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd


def seed_values(runs: pd.DataFrame, cell: Sequence[str], value: str) -> pd.Series:
    """v_s of the runs of one group, by seed; runs without a value left out."""
    runs = runs.dropna(subset=[value])
    cells = runs.groupby(list(cell), observed=True).ngroup().to_numpy()
    seeds, seed = np.unique(runs["seed"].to_numpy(), return_inverse=True)
    of_cell, of_seed = np.eye(cells.max() + 1)[cells], np.eye(len(seeds))[seed] - 1 / len(seeds)
    fit = np.linalg.lstsq(np.hstack([of_cell, of_seed]), runs[value].to_numpy(), rcond=None)[0]
    level, effect = fit[: cells.max() + 1].mean(), fit[cells.max() + 1 :]
    return pd.Series(level + effect - effect.mean(), index=seeds)
