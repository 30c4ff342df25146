"""A mixed model of cells and seeds by restricted likelihood: what all cells say together of each of them.

    y = x_c β + a_c + u_s + e,   a ~ N(0, σ_a²), u ~ N(0, σ_u²), e ~ N(0, σ_e²)

Cells borrow from each other in two ways: the noise is estimated from all of them, so that four seeds suffice,
and each cell's mean is drawn towards what the fixed effects predict, the more the less its own seeds say
(partial pooling). Cells and seeds are crossed; runs may be missing. Cells are absorbed, so that the
likelihood costs as much as a matrix of seeds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

MAX_CELLS = 2000
"""Cells up to which the covariance of all of them is worked out: 2,000 take about 5 s."""

NUM_DRAWS = 4000
"""Draws behind a simultaneous quantile: known to about 0.03."""

_ZERO = 1e-6
"""Ratio of variances below which one counts as none."""


@dataclass(frozen=True, kw_only=True)
class Variances:
    """Estimated variance components."""

    cells: float
    """Between cells, beyond the fixed effects."""
    seeds: float
    """Of the seed's main effect."""
    noise: float
    """Of runs, beyond both."""


@dataclass(frozen=True, kw_only=True)
class MixedFit:
    """A fitted model."""

    variances: Variances
    fixed: np.ndarray
    """β, shape (P,)."""
    fixed_covariance: np.ndarray
    """Shape (P, P)."""
    cells: np.ndarray
    """Predicted mean of each cell over all seeds there might be, shape (C,)."""
    cells_covariance: np.ndarray | None
    """Of the prediction errors, shape (C, C); ``None`` beyond :data:`MAX_CELLS`."""
    residual_freedom: float
    """Degrees of freedom of the noise."""
    between_freedom: float
    """Degrees of freedom of cells beyond the fixed effects; 0 where these describe every cell."""
    num_seeds: int


class _Problem:
    """Cross products of the design, and the restricted likelihood of two ratios of variances."""

    def __init__(self, value: np.ndarray, cell: np.ndarray, seed: np.ndarray, design_CP: np.ndarray) -> None:
        self.value, self.cell, self.seed = value, cell, seed
        self.num_cells, self.num_fixed = design_CP.shape
        self.num_seeds = int(seed.max()) + 1
        self.design_NP = design_CP[cell]
        columns = [self.design_NP, np.eye(self.num_seeds)[seed], value[:, None]]
        self.columns_NK = np.hstack(columns)
        self.total_KK = self.columns_NK.T @ self.columns_NK
        self.sums_CK = np.zeros((self.num_cells, self.columns_NK.shape[1]))
        np.add.at(self.sums_CK, cell, self.columns_NK)
        self.count_C = np.bincount(cell, minlength=self.num_cells).astype(float)

    def solved(self, ratios: np.ndarray) -> tuple[np.ndarray, float]:
        """[X y]' V⁻¹ [X y] and log |V|, of V in units of the noise."""
        of_cells, of_seeds = ratios
        weight_C = of_cells / (1 + of_cells * self.count_C)
        inner_KK = self.total_KK - (self.sums_CK * weight_C[:, None]).T @ self.sums_CK
        seeds = slice(self.num_fixed, self.num_fixed + self.num_seeds)
        kept = [*range(self.num_fixed), inner_KK.shape[0] - 1]
        middle = np.eye(self.num_seeds) + of_seeds * inner_KK[seeds, seeds]
        across = inner_KK[seeds][:, kept]
        reduced = inner_KK[np.ix_(kept, kept)] - of_seeds * across.T @ np.linalg.solve(middle, across)
        log_det = float(np.log1p(of_cells * self.count_C).sum() + np.linalg.slogdet(middle)[1])
        return reduced, log_det

    def deviance(self, ratios: np.ndarray) -> float:
        """−2 × restricted log-likelihood, up to a constant."""
        reduced, log_det = self.solved(ratios)
        fixed, right = reduced[:-1, :-1], reduced[:-1, -1]
        squares = float(reduced[-1, -1] - right @ np.linalg.solve(fixed, right))
        freedom = len(self.value) - self.num_fixed
        return float(freedom * np.log(max(squares, 1e-300)) + log_det + np.linalg.slogdet(fixed)[1])


def fit_mixed(value: np.ndarray, cell: np.ndarray, seed: np.ndarray, design_CP: np.ndarray) -> MixedFit:
    """Fit the model by restricted maximum likelihood.

    Args:
        value: of each run, without NaN, shape (N,).
        cell: number of each run's cell.
        seed: number of each run's seed.
        design_CP: fixed effects of each cell, of full column rank.
    """
    problem = _Problem(value, cell, seed, design_CP)
    cells, fixed = problem.num_cells, problem.num_fixed
    between = float(cells - fixed)
    pinned = np.array([between <= 0, problem.num_seeds < 2])

    def ratios_of(log_ratios: np.ndarray) -> np.ndarray:
        ratios = np.exp(np.clip(log_ratios, -16, 16))
        return np.where(pinned | (ratios < _ZERO), 0.0, ratios)

    starts = [np.array([0.0, -2.0]), np.array([-3.0, 0.0]), np.array([2.0, 1.0])]
    found = min(
        (
            optimize.minimize(
                lambda logs: problem.deviance(ratios_of(logs)),
                start,
                method="Nelder-Mead",
                options={"xatol": 1e-4, "fatol": 1e-7, "maxiter": 400},
            )
            for start in starts
        ),
        key=lambda result: float(result.fun),
    )
    ratios = ratios_of(found.x)
    reduced, _ = problem.solved(ratios)
    inverse = np.linalg.inv(reduced[:-1, :-1])
    beta = inverse @ reduced[:-1, -1]
    squares = max(0.0, float(reduced[-1, -1] - reduced[:-1, -1] @ beta))
    noise = squares / max(1, len(value) - fixed)
    predicted, covariance = _cells(problem, design_CP, ratios, beta, noise)
    return MixedFit(
        variances=Variances(
            cells=float(ratios[0] * noise), seeds=float(ratios[1] * noise), noise=float(noise)
        ),
        fixed=beta,
        fixed_covariance=noise * inverse,
        cells=predicted,
        cells_covariance=covariance,
        residual_freedom=max(1.0, len(value) - cells - problem.num_seeds + 1.0),
        between_freedom=max(0.0, between),
        num_seeds=problem.num_seeds,
    )


def _cells(
    problem: _Problem, design_CP: np.ndarray, ratios: np.ndarray, beta: np.ndarray, noise: float
) -> tuple[np.ndarray, np.ndarray | None]:
    """Best predictions of the cells' means and the covariance of their errors, from Henderson's equations."""
    seeds, cells = problem.num_seeds, problem.num_cells
    count_CS = np.zeros((cells, seeds))
    np.add.at(count_CS, (problem.cell, problem.seed), 1.0)
    rest = problem.value - problem.design_NP @ beta
    rest_C = np.bincount(problem.cell, weights=rest, minlength=cells)
    rest_S = np.bincount(problem.seed, weights=rest, minlength=seeds)
    shrink_C = ratios[0] / (1 + ratios[0] * problem.count_C)
    middle = np.eye(seeds) + ratios[1] * (
        np.diag(count_CS.sum(axis=0)) - (count_CS * shrink_C[:, None]).T @ count_CS
    )
    effect_S = ratios[1] * np.linalg.solve(middle, rest_S - count_CS.T @ (shrink_C * rest_C))
    effect_C = shrink_C * (rest_C - count_CS @ effect_S)
    predicted = design_CP @ beta + effect_C
    if cells > MAX_CELLS:
        return predicted, None
    blocks = [problem.design_NP]
    penalty = [np.zeros(problem.num_fixed)]
    reading = [design_CP]
    if ratios[0] > 0:
        blocks.append(np.eye(cells)[problem.cell])
        penalty.append(np.full(cells, 1 / ratios[0]))
        reading.append(np.eye(cells))
    if ratios[1] > 0:
        blocks.append(np.eye(seeds)[problem.seed])
        penalty.append(np.full(seeds, 1 / ratios[1]))
        reading.append(np.zeros((cells, seeds)))
    whole, read = np.hstack(blocks), np.hstack(reading)
    equations = whole.T @ whole + np.diag(np.concatenate(penalty))
    return predicted, noise * read @ np.linalg.solve(equations, read.T)


def freedom_of(fit: MixedFit, variance: np.ndarray, *, with_seeds: bool) -> np.ndarray:
    """Satterthwaite's degrees of freedom of estimates with this variance.

    Args:
        with_seeds: whether they hold the seeds' main effect, which a difference between cells does not.
    """
    from_seeds = fit.variances.seeds / fit.num_seeds if with_seeds else 0.0
    rest = np.maximum(np.asarray(variance) - from_seeds, 0.0)
    own = fit.between_freedom if fit.variances.cells > 0 and fit.between_freedom > 0 else fit.residual_freedom
    parts = from_seeds**2 / max(1, fit.num_seeds - 1) + rest**2 / max(1.0, min(own, fit.residual_freedom))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(parts > 0, (from_seeds + rest) ** 2 / parts, fit.residual_freedom)


def simultaneous_quantile(covariance: np.ndarray, freedom: float, level: float = 0.95) -> float:
    """Bound that the largest of several correlated |t| keeps with this chance, by simulation."""
    deviation = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    kept = deviation > 0
    if not kept.any():
        return float(special.stdtrit(freedom, 0.5 + level / 2))
    correlation = covariance[np.ix_(kept, kept)] / np.outer(deviation[kept], deviation[kept])
    values, vectors = np.linalg.eigh(correlation)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    rng = np.random.default_rng(0)
    normal = rng.normal(size=(NUM_DRAWS, len(values))) @ root.T
    scale = np.sqrt(rng.chisquare(freedom, NUM_DRAWS) / freedom)
    largest = np.quantile(np.abs(normal).max(axis=1) / scale, level)
    return float(max(largest, special.stdtrit(freedom, 0.5 + level / 2)))
