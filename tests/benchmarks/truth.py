"""Do intervals hold the truth, and are claims false no more often than they say? By planted truth.

Every simulation draws verdicts of a world whose truth is known and asks the functions of arrays that are
behind the tables: nothing is worked out a second time here. A world has seeds × items; a run answers an item
with chance logit⁻¹(level + seed + item), so that shares near one have few wrong verdicts, some items
are hard for every seed, and a gain differs from item to item.

    python -m tests.benchmarks.analysis --truth --json
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from analysis.stats.boundary import FEW
from analysis.stats.crossed import crossed_estimate, crossed_interval
from analysis.stats.intervals import (
    CHANGE,
    FEW_SEEDS,
    SHARE,
    Interval,
    iqm_interval,
    mean_interval,
    median_interval,
)
from analysis.stats.seed_means import seed_means
from analysis.stats.testing import crossed_difference, holm
from analysis.tables.falls import Fall
from analysis.tables.headline import family_level

SEEDS = (4, 8, 16, 30, 64)
LEVELS = (0.5, 0.95, 0.987)
MISSING = (0.0, 0.1)

NUM_ITEMS = 50
"""Items of every world, as few as a small benchmark has."""

NUM_SIMULATIONS = 4000

AT_LEAST, AT_MOST = 0.935, 0.975
"""Coverage asked for; the upper bound holds away from the boundary only."""

SEED_SD, ITEM_SD, CHANGE_ITEM_SD, CHANGE_SEED_SD = 0.4, 1.5, 0.5, 0.3
"""Standard deviations in logits: of seeds, of items, and of what a method adds to either."""

CHANGE_LOGITS = 0.3
"""Mean effect of training in the worlds of a gain."""

PARTS = ("intervals", "claims", "importance", "spellings", "folders", "layouts")
"""Parts of the measurement, in their order."""

_BATCH = 500
"""Simulations drawn at once."""

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(41)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


def expected(level: float | np.ndarray, deviation: float) -> np.ndarray:
    """Mean of logit⁻¹ over a normal of this deviation around ``level``."""
    points = np.asarray(level)[..., None] + deviation * _NODES
    return np.asarray(special.expit(points) @ _WEIGHTS)


def level_of(share: float, deviation: float) -> float:
    """Logit around which a normal of this deviation gives this mean share."""
    low, high = -30.0, 30.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if expected(middle, deviation) < share else (low, middle)
    return (low + high) / 2


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Verdicts of many worlds and what is true of each."""

    verdicts: np.ndarray
    """Shape (simulations, seeds, items): shares, or differences of shares; NaN for a missing seed."""
    same_items: np.ndarray
    """Mean over other seeds on these items, shape (simulations,)."""
    any_items: float
    """Mean over other seeds on other items."""


def draw_shares(rng: np.random.Generator, share: float, seeds: int, missing: float) -> Drawn:
    """Worlds of one accuracy."""
    level = level_of(share, float(np.hypot(SEED_SD, ITEM_SD)))
    item = rng.normal(0, ITEM_SD, (_BATCH, 1, NUM_ITEMS))
    chance = special.expit(level + rng.normal(0, SEED_SD, (_BATCH, seeds, 1)) + item)
    verdicts = (rng.random(chance.shape) < chance).astype(float)
    return Drawn(
        verdicts=without_some(rng, verdicts, missing),
        same_items=expected(level + item[:, 0], SEED_SD).mean(axis=1),
        any_items=share,
    )


def draw_gains(rng: np.random.Generator, share: float, seeds: int, missing: float) -> Drawn:
    """Worlds of a base accuracy and what training makes of it, seven of ten draws in common."""
    base_sd = float(np.hypot(SEED_SD, ITEM_SD))
    level = level_of(share, base_sd)
    seed, item = rng.normal(0, SEED_SD, (_BATCH, seeds, 1)), rng.normal(0, ITEM_SD, (_BATCH, 1, NUM_ITEMS))
    by_item = CHANGE_LOGITS + rng.normal(0, CHANGE_ITEM_SD, (_BATCH, 1, NUM_ITEMS))
    by_seed = rng.normal(0, CHANGE_SEED_SD, (_BATCH, seeds, 1))
    draw = rng.random((_BATCH, seeds, NUM_ITEMS))
    fresh = np.where(rng.random(draw.shape) < 0.3, rng.random(draw.shape), draw)
    base = draw < special.expit(level + seed + item)
    after = fresh < special.expit(level + seed + item + by_item + by_seed)
    after_seed_sd = float(np.hypot(SEED_SD, CHANGE_SEED_SD))
    fixed = expected(level + (item + by_item)[:, 0], after_seed_sd) - expected(level + item[:, 0], SEED_SD)
    after_sd = float(np.sqrt(base_sd**2 + CHANGE_ITEM_SD**2 + CHANGE_SEED_SD**2))
    return Drawn(
        verdicts=without_some(rng, after.astype(float) - base, missing),
        same_items=fixed.mean(axis=1),
        any_items=float(expected(level + CHANGE_LOGITS, after_sd) - share),
    )


def without_some(rng: np.random.Generator, verdicts: np.ndarray, missing: float) -> np.ndarray:
    """The same with whole seeds missing, two at least left."""
    gone = rng.random(verdicts.shape[:2]) < missing
    gone[:, :2] = False
    return np.where(gone[:, :, None], np.nan, verdicts)


def coverage() -> dict[str, dict[str, Any]]:
    """How often intervals of means, gains and crossed means hold the truth, and how wide they are."""
    figures: dict[str, dict[str, Any]] = {}
    for number, seeds in enumerate(SEEDS):
        for share in LEVELS:
            for missing in MISSING:
                rng = np.random.default_rng([number, round(1000 * share), round(100 * missing)])
                held: dict[str, list[np.ndarray]] = {}
                width: dict[str, list[np.ndarray]] = {}
                for _ in range(NUM_SIMULATIONS // _BATCH):
                    shares = draw_shares(rng, share, seeds, missing)
                    gains = draw_gains(rng, share, seeds, missing)
                    for name, interval, truth in _intervals(shares, gains):
                        held.setdefault(name, []).append((interval.low <= truth) & (truth <= interval.high))
                        width.setdefault(name, []).append(interval.high - interval.low)
                for name in held:
                    figures[f"{name}, {seeds} seeds, {100 * share:g} %, {100 * missing:g} % missing"] = {
                        "coverage": round(float(np.concatenate(held[name]).mean()), 4),
                        "width": round(float(np.concatenate(width[name]).mean()), 4),
                        # Wrong verdicts, or for what generalises over items, hard items, are few.
                        "near_boundary": share != 0.5 and is_near(name, share, seeds),
                    }
    return figures


def is_near(name: str, share: float, seeds: int) -> bool:
    """Whether the verdicts of the rarer kind that count as independent are few."""
    independent = NUM_ITEMS * (1 if "items" in name else seeds)
    return min(share, 1 - share) * independent < FEW


def _intervals(shares: Drawn, gains: Drawn) -> list[tuple[str, Interval, np.ndarray]]:
    by_seed, gain_by_seed = shares.verdicts.mean(axis=2), gains.verdicts.mean(axis=2)
    count = NUM_ITEMS * (~np.isnan(by_seed)).sum(axis=1)
    gain_count = NUM_ITEMS * (~np.isnan(gain_by_seed)).sum(axis=1)
    many, many_gains = np.full(_BATCH, shares.any_items), np.full(_BATCH, gains.any_items)
    over_seeds = mean_interval(gain_by_seed, bounds=CHANGE, verdicts=gain_count)
    return [
        ("mean over seeds", mean_interval(by_seed, bounds=SHARE, verdicts=count), shares.same_items),
        ("mean over seeds and items", crossed_interval(shares.verdicts, bounds=SHARE), many),
        ("gain over seeds", over_seeds, gains.same_items),
        ("gain over seeds and items", crossed_interval(gains.verdicts, bounds=CHANGE), many_gains),
    ]


def rows_of_cells() -> dict[str, dict[str, float]]:
    """Coverage of the mean of several cells whose runs are partly missing, over seeds."""
    figures = {}
    for cells, seeds, missing in ((4, 4, 0.1), (24, 4, 0.1), (6, 8, 0.1), (12, 16, 0.3)):
        rng = np.random.default_rng([cells, seeds])
        truth = rng.normal(0, 3, cells)
        values = truth[:, None] + rng.normal(size=(NUM_SIMULATIONS, 1, seeds))
        values = values + rng.normal(size=(NUM_SIMULATIONS, cells, seeds))
        values[rng.random(values.shape) < missing] = np.nan
        cell = np.repeat(np.arange(NUM_SIMULATIONS * cells), seeds)
        by_seed = seed_means(
            values.ravel(),
            np.tile(np.arange(seeds), NUM_SIMULATIONS * cells),
            cell,
            np.arange(NUM_SIMULATIONS * cells) // cells,
            (NUM_SIMULATIONS, seeds),
        )
        interval = mean_interval(by_seed)
        whole = (~np.isnan(values)).any(axis=2).all(axis=1) & ~np.isnan(interval.low)
        held = (interval.low <= truth.mean()) & (truth.mean() <= interval.high)
        figures[f"{cells} cells, {seeds} seeds, {100 * missing:g} % missing"] = {
            "coverage": round(float(held[whole].mean()), 4),
            "width": round(float((interval.high - interval.low)[whole].mean()), 4),
        }
    return figures


def robust() -> dict[str, dict[str, Any]]:
    """Coverage of medians and interquartile means; ``labelled`` where tables say that it is less."""
    figures = {}
    for seeds in (4, 5, *SEEDS[1:]):
        values = np.random.default_rng(seeds).normal(size=(5 * NUM_SIMULATIONS, seeds))
        for name, of in (("median", median_interval), ("IQM", iqm_interval)):
            interval = of(values)
            figures[f"{name}, {seeds} seeds"] = {
                "coverage": round(float(((interval.low <= 0) & (interval.high >= 0)).mean()), 4),
                "width": round(float((interval.high - interval.low).mean()), 4),
                "labelled": seeds <= FEW_SEEDS,
            }
    return figures


def false_verdicts(simulations: int = 1000) -> dict[str, float]:
    """How often any claim is made where nothing is true: seeds, items and methods vary, no mean differs."""
    return {
        "compare, 8 seeds": _false_compare(simulations, 8, 1),
        "compare, 4 seeds": _false_compare(simulations, 4, 1),
        "compare levels after Holm, 8 seeds × 5": _false_compare(simulations, 8, 5),
        "headline, 17 rows": _false_headline(simulations, rows=17, seeds=8),
        "headline, 4 rows of 4 seeds": _false_headline(simulations, rows=4, seeds=4),
        "collapse, 5 steps": _false_collapse(simulations, steps=5, seeds=8),
        "collapse, 10 steps of 4 seeds": _false_collapse(simulations, steps=10, seeds=4),
    }


def _no_difference(rng: np.random.Generator, groups: int, seeds: int) -> np.ndarray:
    """Differences of zero mean with a variance of method × item and of method × seed; (G, S, I)."""
    by_item = rng.normal(0, 0.1, (groups, 1, NUM_ITEMS))
    by_seed = rng.normal(0, 0.02, (groups, seeds, 1))
    return by_item + by_seed + rng.normal(0, 0.35, (groups, seeds, NUM_ITEMS))


def _false_compare(simulations: int, seeds: int, family: int) -> float:
    rng = np.random.default_rng([1, seeds, family])
    false = 0
    for _ in range(simulations):
        values = _no_difference(rng, family, seeds)
        p = np.array([crossed_difference(one, "both", bounds=CHANGE).p for one in values])
        false += bool(holm(p).min() < 0.05)
    return false / simulations


def _false_headline(simulations: int, *, rows: int, seeds: int, steps: int = 4) -> float:
    """Any gain's interval off zero, or any end called below its peak."""
    rng = np.random.default_rng([2, rows, seeds])
    level = family_level(rows, rows)
    false = 0
    for _ in range(simulations):
        gains = crossed_estimate(_no_difference(rng, rows, seeds), "both", bounds=CHANGE)
        interval = gains.interval(level, CHANGE)
        claims = bool(((interval.low > 0) | (interval.high < 0)).any())
        curves = np.stack([_no_difference(rng, rows, seeds) for _ in range(steps)], axis=1)
        claims |= any(_falls_at_end(curve, 1 - level) for curve in curves)
        false += claims
    return false / simulations


def _falls_at_end(curve_TSI: np.ndarray, level: float) -> bool:
    """Whether a plateau is said to end below its own peak."""
    peak = int(curve_TSI.mean(axis=(1, 2)).argmax())
    fall = crossed_difference(curve_TSI[-1] - curve_TSI[peak], "both", bounds=CHANGE)
    return Fall(test=fall, choices=len(curve_TSI) - 1).is_claimed(1, level)


def _false_collapse(simulations: int, *, steps: int, seeds: int) -> float:
    """Any step after the peak of a plateau called the collapse."""
    rng = np.random.default_rng([3, steps, seeds])
    pairs, false = steps * (steps - 1) // 2, 0
    for _ in range(simulations):
        curve = np.stack([_no_difference(rng, 1, seeds)[0] for _ in range(steps)])
        peak = int(curve.mean(axis=(1, 2)).argmax())
        false += any(
            Fall(
                test=crossed_difference(curve[step] - curve[peak], "both", bounds=CHANGE), choices=pairs
            ).is_claimed(1)
            for step in range(peak + 1, steps)
        )
    return false / simulations


def spellings(golds: Path | None) -> dict[str, Any]:
    """What the graders make of golds and their respellings; null without the benchmarks' files."""
    from tests.benchmarks import respellings

    figures: dict[str, Any] = {"golds_equal_self": None, "respellings_right": None}
    if golds is None or not golds.is_dir():
        return figures | {"golds_missing": "the benchmarks' files are not here: --golds FOLDER"}
    spelt = respellings.measure(golds)
    unequal = list(spelt["golds_not_equal_to_themselves"])
    figures |= {
        "golds": spelt["golds"],
        "golds_equal_self": spelt["golds"] - len(unequal),
        "golds_not_equal_to_themselves": unequal,
    }
    return figures | {key: spelt[key] for key in ("respellings", "respellings_right", "other_values_refused")}


def folders() -> dict[str, Any]:
    """Which unusable model folders are refused."""
    from tests.benchmarks import bad_folders

    found = bad_folders.measure()
    return {key: found[key] for key in ("bad_folders", "bad_folders_refused", "planned", "tracebacks")}


def layouts() -> dict[str, Any]:
    """Whether a layout computes after any other what it computes in a fresh process."""
    from tests.benchmarks.history_pairs import history_pairs

    return history_pairs()


def shares() -> dict[str, Any]:
    """Importance against planted shares."""
    from tests.benchmarks.importance_truth import importance_truth

    found = importance_truth()
    return {
        "importance_ok": found["ok"],
        "importance_largest_gap": found["largest_gap"],
        "importance": found["designs"],
    }


def intervals() -> dict[str, Any]:
    """Coverage of all intervals."""
    by_world, robust_ones, rows = coverage(), robust(), rows_of_cells()
    plain = [f for f in robust_ones.values() if not f["labelled"]]
    least = min(f["coverage"] for f in [*by_world.values(), *rows.values(), *plain])
    most = max(f["coverage"] for f in by_world.values() if not f["near_boundary"])
    return {
        "coverage": by_world,
        "coverage_of_rows": rows,
        "coverage_robust": robust_ones,
        "coverage_least": least,
        "coverage_most_away_from_boundary": most,
        "coverage_ok": least >= AT_LEAST and most <= AT_MOST,
    }


def claims() -> dict[str, Any]:
    """False claims under their nulls."""
    false = false_verdicts()
    return {"false_verdicts": false, "false_verdicts_ok": max(false.values()) <= 0.05}


def truth(golds: Path | None = None) -> dict[str, Any]:
    """All figures, whether they are what is asked for, and what each part took."""
    figures: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    parts = (intervals, claims, shares, partial(spellings, golds), folders, layouts)
    for name, part in zip(PARTS, parts, strict=True):
        started = time.perf_counter()
        figures |= part()
        seconds[name] = round(time.perf_counter() - started, 1)
        print(f"{name}: {seconds[name]} s", file=sys.stderr, flush=True)
    return figures | {"seconds": seconds}
