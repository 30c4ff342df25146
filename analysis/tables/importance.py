"""Which axis matters: shares of the variance of runs by axis, by pair of axes, and by seed."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.data.sweep import SweepData
from analysis.output.table import ReportColumn, ReportTable, percent
from analysis.stats.anova import Decomposition, decompose
from analysis.tables.missing import require_runs
from analysis.tables.seed_values import gather
from analysis.tables.structure import Structure
from sweeps.spec.errors import UserError
from sweeps.spec.text import counted

SEED_ROW, HIGHER_ROW, NOISE_ROW = "seed (all cells alike)", "higher interactions", "noise within cells"
UNATTRIBUTED_ROW = "shared, not attributable"
REST_ROW = "higher interactions and noise"
"""Names of the lines that are no axis; the last is of a sweep of one seed."""

WORTH_A_WORD = 0.005
"""Unattributed share from which the sentence speaks of it."""

NEGLIGIBLE = 0.0005
"""Share below which a line that is no axis is left out: it would print as 0.0 %."""


def importance(sweep: SweepData, *, metric: str | None = None, max_order: int = 2) -> ReportTable:
    """Return the decomposition of a metric's variance, largest share first, seed and noise last.

    Axes that cannot be told apart on this grid share a line (``steps | lr``); an axis that exists under a
    condition has the share of what it explains where it exists (``decay_fraction within schedule``).

    Columns of the frame: ``effect, order, share`` (ω²), ``freedom, p``.

    Raises:
        UserError: for an unknown metric, or when no axis has two values with results.
    """
    require_runs(sweep)
    metric = sweep.metric(metric)
    gathered = gather(sweep, sweep.cell_keys, metric)
    keep = ~np.isnan(gathered.values).all(axis=1)
    groups, values_CS = gathered.groups[keep], gathered.values[keep]
    axes = [key for key in sweep.cell_keys if groups[key].nunique(dropna=False) > 1]
    if not axes:
        raise UserError("importance needs an axis with two values that have results")
    levels_CA = np.stack([pd.factorize(groups[key])[0] for key in axes], axis=1)  # −1 where it is absent
    decomposition = decompose(values_CS, levels_CA, max_order)
    names = Structure(axes=axes, factors=decomposition.factors)
    rows = [
        {
            "effect": names.effect(effect.axes),
            "order": len(effect.axes),
            "share": effect.share,
            "freedom": effect.freedom,
            "p": effect.p,
        }
        for effect in sorted(decomposition.effects, key=lambda e: -e.share)
    ]
    rows += [
        {"effect": name, "order": 0, "share": share, "freedom": np.nan, "p": np.nan}
        for name, share in _rest(decomposition)
    ]
    layout = (
        ReportColumn(header="effect", source="effect"),
        ReportColumn(header="share of variance (ω²), %", source="share", kind="points"),
        ReportColumn(header="df", source="freedom", kind="count"),
        ReportColumn(header="p", source="p", kind="p"),
    )
    missing = int((gathered.groups["expected"] - gathered.groups["valued"]).sum())
    notes = (*_notes(decomposition, missing, values_CS), *names.confounded(), *_conditional(names))
    return ReportTable(
        title=f"What moves {metric}", frame=pd.DataFrame(rows), layout=layout, notes=(*notes, *sweep.warnings)
    )


CONDITIONAL = (
    "The line of an axis that exists for some runs only is what it explains there, as a share of the "
    "variance of all runs; what having it or not makes is in the line of the axis that decides."
)
"""Note of a decomposition with such an axis."""


def _conditional(names: Structure) -> list[str]:
    sentences = names.conditional()
    return [*sentences, CONDITIONAL] if sentences else []


def in_words(table: ReportTable) -> str:
    """One sentence about the result of :func:`importance`: the largest effects, the seed and the noise."""
    shares = table.frame.set_index("effect")["share"]
    largest = table.frame[table.frame["order"] > 0].head(2)
    named = " and ".join(f"{row.effect} {percent(row.share)} %" for row in largest.itertuples())
    text = f"Of the variance between runs, {named or 'no axis anything'}"
    if SEED_ROW not in shares or shares[SEED_ROW] != shares[SEED_ROW]:
        return f"{text}; with one seed, the shares of seed and noise are unknown."
    text += f"; the seed, in all cells alike, {percent(shares[SEED_ROW])} %"
    if shares[NOISE_ROW] == shares[NOISE_ROW]:
        text += f"; noise within cells {percent(shares[NOISE_ROW])} %"
    if shares.get(UNATTRIBUTED_ROW, 0.0) >= WORTH_A_WORD:
        text += f"; {percent(shares[UNATTRIBUTED_ROW])} % no single axis can claim"
    return f"{text}."


def _rest(decomposition: Decomposition) -> list[tuple[str, float]]:
    one_seed = np.isnan(decomposition.seed_share)
    rest = [
        (UNATTRIBUTED_ROW, decomposition.unattributed_share),
        (REST_ROW if one_seed else HIGHER_ROW, decomposition.higher_share),
    ]
    rest = [(name, share) for name, share in rest if abs(share) >= NEGLIGIBLE]
    return [*rest, (SEED_ROW, decomposition.seed_share), (NOISE_ROW, decomposition.noise_share)]


def _notes(decomposition: Decomposition, missing: int, values_CS: np.ndarray) -> tuple[str, ...]:
    seeds = values_CS.shape[1]
    crossed = "crossed with all cells" if not np.isnan(values_CS).any() else "of which some cells lack some"
    method = (
        "Exact functional ANOVA of the full factorial"
        if decomposition.balanced
        else "Incomplete grid: type-II least squares, each effect after all others that do not contain it"
    )
    if decomposition.overlapping:
        method += " (single axes only: their interactions cannot be told from them on this grid, and are in "
        method += "their lines, the shared line or the noise)"
    elif not decomposition.balanced and decomposition.max_order < 2:
        method += " (main effects only: the interactions are too many to fit)"
    notes = [
        f"{method}; {decomposition.num_runs:,} runs, {counted(seeds, 'seed')} {crossed}. ω² is "
        "corrected for noise: an axis without effect has 0 on average, a small negative share means none.",
    ]
    if np.isnan(decomposition.noise_share) and seeds > 1:
        notes.append(
            "No cell has two seeds of which another has both: noise cannot be told from the differences "
            "between cells."
        )
    elif np.isnan(decomposition.noise_share):
        notes.append(
            "One seed: what the seed and noise make is unknown and cannot be told from effects; the shares "
            "are upper bounds."
        )
    if missing:
        notes.append(
            f"Rule: {missing:,} runs without a value (diverged, failed, not needed, not run) are left out."
        )
    return tuple(notes)
