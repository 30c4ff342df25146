"""A sweep's runs as cells × seeds with the axes as dummy columns: what models of all cells are fitted to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.data.axes import SEED, is_absent
from analysis.data.sweep import SweepData
from analysis.stats.mixed import MAX_CELLS
from sweeps.spec.errors import UserError

ESTIMABLE = 1e-8
"""Error of a combination of cells below which it is the wanted one."""


@dataclass(frozen=True, kw_only=True)
class CellRuns:
    """The runs that have a metric, one value per cell and seed."""

    frame: pd.DataFrame
    """One row per cell: its axes."""
    value: np.ndarray
    """Shape (N,)."""
    cell: np.ndarray
    seed: np.ndarray
    num_missing: int
    """Cells without any value, which take no part."""

    @property
    def table(self) -> np.ndarray:
        """Values per cell and seed, NaN where there is none."""
        values_CS = np.full((len(self.frame), int(self.seed.max()) + 1), np.nan)
        values_CS[self.cell, self.seed] = self.value
        return values_CS


def cell_runs(sweep: SweepData, metric: str) -> CellRuns:
    """Arrange the runs.

    Raises:
        UserError: with fewer than two cells or seeds, or too many cells.
    """
    columns = sweep.columns([metric])
    value_R = columns.metric(metric)
    known = np.flatnonzero(~np.isnan(value_R))
    groups = columns.group(columns.cell_keys)
    cells, cell = np.unique(groups.number[known], return_inverse=True)
    seeds, seed = np.unique(columns.levels(SEED)[1][known], return_inverse=True)
    if len(cells) < 2 or len(seeds) < 2:
        raise UserError(
            f"{metric}: {len(cells)} cells and {len(seeds)} seeds have a value; a model of all cells needs "
            "two of "
            "each"
        )
    if len(cells) > MAX_CELLS:
        raise UserError(
            f"{len(cells):,} cells: a model of all of them takes up to {MAX_CELLS:,}; narrow the sweep by a "
            "filter"
        )
    place = cell * len(seeds) + seed
    count = np.bincount(place, minlength=len(cells) * len(seeds))
    total = np.bincount(place, weights=value_R[known], minlength=len(count))
    used = np.flatnonzero(count)
    return CellRuns(
        frame=columns.frame(groups).iloc[cells].reset_index(drop=True),
        value=total[used] / count[used],
        cell=used // len(seeds),
        seed=used % len(seeds),
        num_missing=groups.size - len(cells),
    )


@dataclass(frozen=True, kw_only=True)
class Design:
    """Main effects of axes: an intercept, then a column for every value of an axis but its first."""

    matrix: np.ndarray
    """Shape (C, P), of full column rank."""
    columns: list[tuple[str, int]]
    """Axis and number of the value of each column after the intercept."""
    values: dict[str, list]
    """Values of each axis that has a column, its first included."""
    confounded: list[str]
    """Axes that have no column of their own, because others say the same."""


def main_effects(frame: pd.DataFrame, keys: Sequence[str]) -> Design:
    """The design of some axes; columns that earlier ones already span are left out."""
    matrix, columns, values, confounded = np.ones((len(frame), 1)), [], {}, []
    for key in keys:
        codes, levels = pd.factorize(frame[key].astype(object), use_na_sentinel=False)
        if len(levels) < 2:
            continue
        added = 0
        for number in range(1, len(levels)):
            wider = np.hstack([matrix, (codes == number)[:, None].astype(float)])
            if np.linalg.matrix_rank(wider) == wider.shape[1]:
                matrix, added = wider, added + 1
                columns.append((key, number))
        if added == len(levels) - 1:
            values[key] = levels.tolist()
        else:
            confounded.append(key)
    return Design(matrix=matrix, columns=columns, values=values, confounded=confounded)


@dataclass(frozen=True, kw_only=True)
class EqualTerms:
    """What to read of a fitted design: the values of one axis with all others on equal terms."""

    means_LP: np.ndarray
    """Per value, weights of the design's coefficients."""
    has_mean: np.ndarray
    """Whether the cells tell that mean."""
    contrasts_LP: np.ndarray
    """The same for its difference from the reference."""
    has_contrast: np.ndarray
    equal_weights: bool
    """Whether other axes are at the average of their values, not of what the cells have."""


def equal_terms(frame: pd.DataFrame, design: Design, key: str, reference: int) -> EqualTerms:
    """Means and contrasts of an axis, those that are estimable: combinations of what cells were run.

    Where axes move in step the average of all their values is no such combination; their average over the
    cells is.
    """
    axes = (key, *(axis for axis in frame if axis != key))
    codes = {axis: pd.factorize(frame[axis].astype(object), use_na_sentinel=False)[0] for axis in axes}
    dummies = {axis: np.eye(code.max() + 1)[code] for axis, code in codes.items()}
    for axis in axes[1:]:
        # What exists under a condition is averaged where it exists, and is nothing elsewhere.
        exists = ~np.array([is_absent(value) for value in frame[axis]])
        if not exists.all() and exists.any():
            levels = dummies[axis][:, dummies[axis][exists].any(axis=0)]
            dummies[axis] = np.where(exists[:, None], levels - 1 / levels.shape[1], 0.0)
    whole_CK = np.hstack([np.ones((len(frame), 1)), *dummies.values()])
    of_cells_KC = np.linalg.pinv(whole_CK).T

    def read(wanted_LK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        weights_LC = wanted_LK @ of_cells_KC.T
        told = np.abs(weights_LC @ whole_CK - wanted_LK).max(axis=1) < ESTIMABLE
        return weights_LC @ design.matrix, told

    own = np.eye(len(design.values[key]))
    others = [dummy for axis, dummy in dummies.items() if axis != key]

    def rows(averages: Sequence[np.ndarray]) -> np.ndarray:
        rest = np.concatenate([np.zeros(0), *averages])
        return np.hstack([np.ones((len(own), 1)), own, np.tile(rest, (len(own), 1))])

    equal_LK = rows([np.full(d.shape[1], 1 / d.shape[1]) if d.min() >= 0 else 0.0 * d[0] for d in others])
    contrasts_LP, has_contrast = read(equal_LK - equal_LK[reference])
    has_contrast[reference] = False
    means_LP, has_mean = read(equal_LK)
    equal_weights = bool(has_mean.all())
    if not equal_weights:
        means_LP, has_mean = read(rows([dummy.mean(axis=0) for dummy in others]))
    return EqualTerms(
        means_LP=means_LP,
        has_mean=has_mean,
        contrasts_LP=contrasts_LP,
        has_contrast=has_contrast,
        equal_weights=equal_weights,
    )
