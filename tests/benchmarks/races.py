"""Races over simulated sweeps with planted truth, and over the stored results of a finished grid.

The observations of a simulated sweep have the spread of the stored grid: residuals of its cells, as normal
draws with their covariances, which cells sharing seeds and base have, or as the stored residuals
themselves, drawn seed by seed. A third of the cells has no effect, the others that of a stored cell. Every
other race ends early, when a random budget of runs is used up. A race takes its course in the product's own
state machine.

Letters: K cells, P seeds, I items.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analysis import open_sweep
from sweeps.deciding.best import Best
from sweeps.deciding.rules import BEATEN, BEST, RaceRule
from sweeps.deciding.sides import Sides
from sweeps.spec.errors import UserError
from sweeps.spec.search_rules import RaceSpec

MODES = ("sampled", "greedy")
ERRORS = ("fdr", "fwer")
MIN_SEEDS = RaceSpec().min_seeds
"""Seeds before a cell may leave, as a launch has it."""

BEST_RULE = RaceRule(question="best", min_seeds=MIN_SEEDS)

NUM_SEEDS = 16
CELLS = 24
"""Cells of a simulated sweep."""

ORDERS, BEST_ORDERS = 20, 2
"""Random seed orders of the replay; with the pairs of 840 cells one takes seconds."""

ITEM = 1 / 200
"""What one answer of 200 is worth. Cells whose seeds spread by less are not simulated: less their mean,
their values are ones that no run can have.
"""

SLICE = 30
"""Cells of one model and example: the sweeps in which the best is asked for, beside the whole grid."""


@dataclass(frozen=True, kw_only=True)
class StoredGrid:
    """Results of the grid, by mode; cells of one model and example are neighbours."""

    values: dict[str, np.ndarray]
    """Gain over the base, shape (K, P)."""
    floors: dict[str, np.ndarray]
    """Its sampling variance over items, shape (K, P)."""
    items_KPI: np.ndarray
    """Graded answers after training, sampled."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """How a race went: what was said of each cell (empty for nothing), after how many seeds."""

    said: list[str]
    seeds: np.ndarray


def stored_grid(directory: Path) -> StoredGrid | None:
    """The finished grid of a directory, ``None`` where there is none."""
    try:
        sweep = open_sweep(directory)
    except UserError:
        return None
    runs = sweep.runs(["run_id", "model", "example", "cell", "seed", "outcome"])
    runs = runs.sort_values(["model", "example", "cell", "seed"])
    if len(runs) != 13_440 or (runs["outcome"] != "done").any():
        return None
    items = (
        sweep.items(["run_id", "mode", "step", "correct"]).set_index(["mode", "step", "run_id"]).sort_index()
    )
    values, floors = {}, {}
    after_KPI = np.zeros(0)
    for mode in reversed(MODES):
        before_KPI, after_KPI = (
            np.stack(items.loc[mode, step].loc[runs["run_id"], "correct"].to_list())
            .astype(float)
            .reshape(-1, NUM_SEEDS, 200)
            for step in (0, 10)
        )
        change_KPI = after_KPI - before_KPI
        values[mode] = change_KPI.mean(axis=-1)
        floors[mode] = change_KPI.var(axis=-1, ddof=1) / 200
    return StoredGrid(values=values, floors=floors, items_KPI=after_KPI)


def assumed_grid() -> StoredGrid:
    """Cells such as the grid has: effects of up to ten points, half of the variance that of items."""
    draw = np.random.default_rng(0)
    spread_K = draw.uniform(0.01, 0.04, 840)
    noise_KP = np.sqrt(0.3) * draw.normal(size=NUM_SEEDS) + np.sqrt(0.7) * draw.normal(size=(840, NUM_SEEDS))
    values_KP = draw.normal(0, 0.05, (840, 1)) + spread_K[:, None] * noise_KP
    floors_KP = np.broadcast_to(0.5 * spread_K[:, None] ** 2, values_KP.shape)
    return StoredGrid(values={"sampled": values_KP}, floors={"sampled": floors_KP}, items_KPI=np.zeros(0))


def raced(rule: RaceRule, values_KP: np.ndarray, floors_KP: np.ndarray, budget: float = np.inf) -> Course:
    """A race about sides over these values, ended before the first round that the budget cannot pay."""
    state = Sides(len(values_KP), rule)
    return _course(
        state,
        values_KP.shape,
        budget,
        lambda here, p: state.look(here, values_KP[here, p], floors_KP[here, p]),
    )


def raced_for_best(
    rule: RaceRule, values_KP: np.ndarray, items_KPI: np.ndarray | None, budget: float = np.inf
) -> Course:
    """A race for the best over these values."""
    state = Best(len(values_KP), rule)

    def look(here: np.ndarray, p: int) -> list:
        covariance = None if items_KPI is None else np.cov(items_KPI[here, p]) / items_KPI.shape[-1]
        return state.look(here, values_KP[here, p], covariance)

    return _course(state, values_KP.shape, budget, look)


def _course(state, shape, budget, look) -> Course:  # type: ignore[no-untyped-def]
    said, seeds, spent = [""] * shape[0], np.zeros(shape[0], dtype=int), 0
    for position in range(shape[1]):
        here = np.flatnonzero(state.open)
        spent += len(here)
        if not len(here) or spent > budget:
            break
        seeds[here] += 1
        for claim in look(here, position):
            said[claim.member] = claim.side
    return Course(said=said, seeds=seeds)


def simulated(grid: StoredGrid | None, num_sweeps: int) -> dict[str, float]:
    """Error rates over simulated sweeps, and what the races ran and decided."""
    grid = grid or assumed_grid()
    values_KP, floors_KP = grid.values["sampled"], grid.floors["sampled"]
    effect_K = values_KP.mean(axis=1)
    residual_KP = values_KP - effect_K[:, None]
    varies = np.flatnonzero(residual_KP.std(axis=1) >= ITEM)
    figures: dict[str, float] = {}
    for name in ("", "_resampled"):
        draw = np.random.default_rng(12)
        rates: dict[str, list[float]] = {}
        for sweep in range(num_sweeps):
            cells = draw.choice(varies, CELLS, replace=False)
            seeds = draw.integers(0, NUM_SEEDS, NUM_SEEDS)
            weights_PP = np.eye(NUM_SEEDS)[seeds].T if name else draw.normal(size=(NUM_SEEDS, NUM_SEEDS)) / 4
            noise_KP = residual_KP[cells] @ weights_PP * np.sqrt(NUM_SEEDS / (NUM_SEEDS - 1))
            planted_K = np.where(draw.random(CELLS) < 1 / 3, 0.0, effect_K[draw.choice(varies, CELLS)])
            budget = draw.integers(CELLS, CELLS * NUM_SEEDS) if sweep % 2 else np.inf
            floor_KP = floors_KP[cells][:, seeds]
            for error in ERRORS:
                rule = _rule(error)
                true = raced(rule, planted_K[:, None] + noise_KP, floor_KP, budget)
                none = raced(rule, noise_KP, floor_KP, budget)
                wrong, said = _wrong(true.said, planted_K), sum(map(bool, true.said))
                tail = f"{'' if error == 'fdr' else '_fwer'}{name}"
                rates.setdefault(f"race_error_rate{tail}", []).append(
                    wrong / max(1, said) if error == "fdr" else float(wrong > 0)
                )
                rates.setdefault(f"null_error_rate{tail}", []).append(float(any(none.said)))
                if sweep % 2 == 0:
                    rates.setdefault(f"simulated_decided_share{tail}", []).append(said / CELLS)
            best = raced_for_best(
                BEST_RULE,
                0.3 * planted_K[:, None] + noise_KP,
                None,
                budget,
            )
            missed = best.said[int(planted_K.argmax())] == BEATEN
            rates.setdefault(f"best_error_rate{name}", []).append(float(missed))
        figures |= {key: float(np.mean(values)) for key, values in rates.items()}
    return figures | {"simulated_sweeps": num_sweeps}


def _rule(error: str) -> RaceRule:
    return RaceRule(error=error, min_seeds=MIN_SEEDS)


def _wrong(said: list[str], planted_K: np.ndarray) -> int:
    return sum(
        bool(side) and side != ("above" if effect > 0 else "below" if effect < 0 else "")
        for side, effect in zip(said, planted_K, strict=True)
    )


def replayed(grid: StoredGrid | None, num_sweeps: int) -> dict[str, float]:
    """Races over the stored results in random seed orders, against what all 16 seeds say."""
    if grid is None:
        return {}
    figures: dict[str, float] = {}
    for mode in MODES:
        values_KP, floors_KP = grid.values[mode], grid.floors[mode]
        side_K = np.where(values_KP.mean(axis=1) > 0, "above", "below")
        for error in ERRORS:
            tail = f"{'' if error == 'fdr' else '_fwer'}{'' if mode == 'sampled' else '_greedy'}"
            shares, agreement, decided = [], [], []
            for order in _orders(ORDERS):
                course = raced(_rule(error), values_KP[:, order], floors_KP[:, order])
                said_K = np.array(course.said)
                shares.append(course.seeds.mean() / NUM_SEEDS)
                decided.append((said_K != "").mean())
                agreement.append((said_K == side_K)[said_K != ""].mean())
            figures |= {
                f"race_runs_share{tail}": float(np.mean(shares)),
                f"race_decided_share{tail}": float(np.mean(decided)),
                f"race_agreement{tail}": float(np.mean(agreement)),
            }
    return figures | mixture_replayed(grid) | best_replayed(grid)


def mixture_replayed(grid: StoredGrid) -> dict[str, float]:
    """What a race by p-values would be, from the t mixture and its running supremum, valid at any stop.

    Wang and Ramdas, arXiv 2310.03722, theorem 4.9, c² = 0.1; corrected after Benjamini and Yekutieli (2001).
    """
    values_KP, floors_KP = grid.values["sampled"], grid.floors["sampled"]
    num_cells, ranks = len(values_KP), np.arange(1, len(values_KP) + 1)
    threshold_K = np.log(num_cells * (1 / ranks).sum() / 0.05 / ranks)
    n_P, c = np.arange(1, NUM_SEEDS + 1), 0.1
    shares, decided = [], []
    for order in _orders(ORDERS):
        mean_KP = np.cumsum(values_KP[:, order], axis=1) / n_P
        own_KP = np.cumsum(values_KP[:, order] ** 2, axis=1) / n_P - mean_KP**2
        variance_KP = np.maximum(own_KP, np.cumsum(floors_KP[:, order], axis=1) / n_P) + 1e-12
        ratio_KP = mean_KP**2 * n_P / (n_P + c) / (variance_KP + mean_KP**2 * c / (n_P + c))
        log_e_KP = 0.5 * (n_P * np.log1p(ratio_KP) - np.log1p(n_P / c))
        best_K, seeds_K = np.full(num_cells, -np.inf), np.full(num_cells, NUM_SEEDS)
        left_K = np.zeros(num_cells, dtype=bool)
        for p in range(1, NUM_SEEDS):
            best_K = np.where(left_K, best_K, np.maximum(best_K, log_e_KP[:, p]))
            ordered_K = np.sort(best_K)[::-1]
            reached = np.flatnonzero(ordered_K >= threshold_K)
            leaves_K = ~left_K & (best_K >= (ordered_K[reached[-1]] if len(reached) else np.inf))
            seeds_K[leaves_K], left_K = p + 1, left_K | leaves_K
        shares.append(seeds_K.mean() / NUM_SEEDS)
        decided.append(left_K.mean())
    return {
        "mixture_runs_share": float(np.mean(shares)),
        "mixture_decided_share": float(np.mean(decided)),
    }


def best_replayed(grid: StoredGrid) -> dict[str, float]:
    """Races for the best accuracy: of the whole grid, and of the 30 cells of each model and example."""
    values_KP, figures = grid.items_KPI.mean(axis=-1), {}
    parts = {"": [slice(0, len(values_KP))]}
    parts["_of_30"] = [slice(start, start + SLICE) for start in range(0, len(values_KP), SLICE)]
    for name, slices in parts.items():
        shares, kept, named = [], [], []
        for order in _orders(BEST_ORDERS):
            for part in slices:
                items_KPI = grid.items_KPI[part][:, order]
                course = raced_for_best(BEST_RULE, values_KP[part][:, order], items_KPI)
                winners = np.flatnonzero(values_KP[part].mean(axis=1) == values_KP[part].mean(axis=1).max())
                shares.append(course.seeds.mean() / NUM_SEEDS)
                kept.append(any(course.said[k] != BEATEN for k in winners))
                named.append(BEST in course.said)
        figures |= {
            f"best_runs_share{name}": float(np.mean(shares)),
            f"best_agreement{name}": float(np.mean(kept)),
            f"best_named_share{name}": float(np.mean(named)),
        }
    return figures


def _orders(num: int) -> list[np.ndarray]:
    draw = np.random.default_rng(7)
    return [draw.permutation(NUM_SEEDS) for _ in range(num)]
