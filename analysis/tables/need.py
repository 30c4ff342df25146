"""What to add to a sweep so that a difference would be seen: seeds or items, and how many.

    emsweep need outputs/quickstart optim.lr=1e-4 optim.lr=2e-4 --effect 1

Seeds repeat the training, items only the evaluation; which of them is the bottleneck the variance between
seeds and between items says. Planning is for the test that `compare` does, at the level that its correction
leaves.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis.data.axes import words_of
from analysis.data.sweep import SweepData
from analysis.output.table import ReportColumn, ReportTable, axis_columns, change_kind
from analysis.stats.power import WANTED_POWER
from analysis.stats.testing import Difference
from analysis.tables.compare import SMALLEST_OF_INTEREST, compare, compare_levels
from sweeps.spec.errors import UserError


def what_to_add(
    sweep: SweepData,
    a: str,
    b: str | None = None,
    *,
    effect: float | None = None,
    by: str | Sequence[str] = (),
    metric: str | None = None,
    over: str | None = None,
) -> ReportTable:
    """One row per difference of B from A (or, without ``b``, of each value of the axis ``a`` from its first).

    Columns of the frame: those of the comparison's groups, ``effect``, ``seeds``, ``items``, ``power`` as it
    is, ``seeds_needed`` on these items and ``items_needed`` with these seeds for a power of 80 % (infinite
    where no number is enough), ``add`` in words.

    Args:
        effect: true difference to be seen, in the metric's own scale; one point of a share by default.

    Raises:
        UserError: for a metric that is no share without ``effect``, and as the comparison does.
    """
    metric = sweep.metric(metric)
    info = sweep.info(metric)
    if effect is None and not info.is_share:
        raise UserError(f"metric {metric!r} is no share: say which difference is to be seen with --effect")
    wanted = SMALLEST_OF_INTEREST if effect is None else abs(effect)
    if not wanted > 0:
        raise UserError(f"effect {effect}: must be a number other than zero")
    if b is None:
        comparison = compare_levels(sweep, a, metric=metric, over=over)
        keys = [sweep.axis(a).key]
    else:
        comparison = compare(sweep, a, b, by=by, metric=metric, over=over)
        keys = [sweep.axis(word).key for word in words_of(by)]
    frame = comparison.table.frame[keys].copy()
    level = 0.05 / max(1, len(comparison.tests))
    tests = comparison.tests
    frame["effect"] = wanted
    frame["seeds"], frame["items"] = [t.n for t in tests], [t.items for t in tests]
    frame["power"] = [t.power(wanted, level) for t in tests]
    frame["seeds_needed"] = [t.seeds_needed(wanted, level) for t in tests]
    frame["items_needed"] = [t.items_needed(wanted, level) for t in tests]
    frame["add"] = [
        _add(test, *row)
        for test, row in zip(tests, frame[["power", "seeds_needed", "items_needed"]].to_numpy(), strict=True)
    ]
    return ReportTable(
        title=f"{metric}: what shows a difference, {comparison.table.title.split(': ', 1)[-1]}",
        frame=frame,
        layout=(
            *axis_columns(keys),
            ReportColumn(header="effect", source="effect", kind=change_kind(info)),
            ReportColumn(header="seeds", source="seeds", kind="count"),
            ReportColumn(header="items", source="items", kind="count"),
            ReportColumn(header="power now, %", source="power", kind="points"),
            ReportColumn(header="seeds needed", source="seeds_needed", kind="count"),
            ReportColumn(header="items needed", source="items_needed", kind="count"),
            ReportColumn(header="add", source="add"),
        ),
        notes=(
            f"For a power of {100 * WANTED_POWER:.0f} % of the test of `compare` at {100 * level:.2g} %"
            + (f" (5 % over {len(tests)}, Bonferroni)" if len(tests) > 1 else "")
            + ". Seeds needed: on these items; items needed: with these seeds; ∞: no number is enough, "
            "because the other limits it. Variances are estimated from this sweep and uncertain with few "
            "seeds.",
            *sweep.warnings,
        ),
    )


def _add(test: Difference, power: float, seeds: float, items: float) -> str:
    """The advice of one row."""
    if np.isnan(power):
        return "cannot be told: no variance to plan by"
    if power >= WANTED_POWER:
        return "nothing"
    more_seeds = seeds - test.n if np.isfinite(seeds) else np.inf
    more_items = items - test.items if np.isfinite(items) else np.inf
    if not test.items:
        return f"{more_seeds:,.0f} seeds" if np.isfinite(more_seeds) else "more seeds than can be run"
    if np.isinf(more_seeds) and np.isinf(more_items):
        return "seeds and items: neither alone is enough"
    if np.isinf(more_seeds):
        return f"{more_items:,.0f} items: seeds alone are not enough"
    if np.isinf(more_items):
        return f"{more_seeds:,.0f} seeds: items alone are not enough"
    return f"{more_seeds:,.0f} seeds or {more_items:,.0f} items"
