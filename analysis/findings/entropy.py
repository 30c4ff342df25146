"""Does the entropy that a model starts with tell how much it gains?"""

from __future__ import annotations

from functools import partial

import numpy as np

from analysis.data.sweep import SweepData
from analysis.findings.base import Finding, best_setting, has_metric, runs_and_seeds
from analysis.findings.ranks import rank_correlation
from analysis.output import figures
from analysis.output.figure import Figure
from analysis.output.table import SEEDS, ReportColumn, ReportTable, interval_column
from analysis.tables.group_means import group_means
from analysis.tables.item_means import interval_words
from analysis.tables.seed_values import SeedGroups

_finding = partial(
    Finding, key="entropy", question="Do models and prompts that start with more entropy gain more?"
)

CLAIMED_THRESHOLD_NATS = 0.5
"""Initial entropy above which one-shot entropy minimization is claimed to work."""

MIN_FAMILIES = 3
"""Models below which nothing can be said about families."""


def entropy(sweep: SweepData, gain: str = "gain_sampled") -> Finding:
    """Initial entropy against gain, one point per model and example."""
    if not (has_metric(sweep, "first_entropy_nats") and has_metric(sweep, gain)):
        return _finding(
            missing=f"runs with first_entropy_nats and {gain}; evaluate at step 0",
        )
    keys = [k for k in ("model", "example") if k in sweep.axis_keys and len(sweep.axis(k).values) > 1]
    if not keys:
        return _finding(missing="an axis model or example with several values: all runs start alike")
    best, where = best_setting(sweep, keys, gain)
    columns = best.columns([gain, "first_entropy_nats"])
    gain_R, means = columns.metric(gain), group_means(best, keys, gain, "gain")
    entropy_R = np.where(np.isnan(gain_R), np.nan, columns.metric("first_entropy_nats"))
    entropies = SeedGroups(columns, keys).estimate(entropy_R, "entropy")[[*keys, "entropy"]]
    frame = means.frame.merge(entropies, on=keys, how="left")
    correlation, p = rank_correlation(frame["entropy"], frame["gain"])
    both = frame.dropna(subset=["entropy", "gain"])
    models = both["model"].nunique() if "model" in frame else 1
    high = int((both["entropy"] >= CLAIMED_THRESHOLD_NATS).sum())
    sentences = [
        f"Over {len(both)} pairs of model and example{where}: rank correlation of initial entropy and gain "
        + (
            f"{correlation:+.2f} (permutation p={p:.2g})."
            if correlation == correlation
            else "cannot be told."
        ),
        f"{high} of {len(both)} start above the claimed threshold of {CLAIMED_THRESHOLD_NATS} nats.",
    ]
    if models < MIN_FAMILIES:
        sentences.append(f"{models} model{'s' if models > 1 else ''}: too few to speak of families.")
    return _finding(
        sentences=tuple(sentences),
        table=ReportTable(
            title="Initial entropy and gain",
            frame=frame.sort_values("entropy", ascending=False, ignore_index=True),
            layout=(
                *(ReportColumn(header=key, source=key) for key in keys),
                ReportColumn(header="initial entropy, nats", source="entropy", kind="number"),
                interval_column("gain", "gain", "gain"),
                SEEDS,
            ),
            notes=(
                "Entropy: mean over the tokens of the first step's rollouts, at temperature 1, before any "
                f"update{where}; a mean without an interval, for it is of no item of the benchmark. Gain: "
                f"{interval_words(means.over)}. The rank correlation is of these pairs on these items.",
            ),
        ),
        figure=Figure(
            chart=figures.scatter(
                figures.keep_groups(frame, "model", "gain")[0] if "model" in frame else frame,
                x="entropy",
                y="gain",
                x_title="initial entropy (nats)",
                y_title=figures.titled("gain over base", sweep.info(gain)),
                color="model" if "model" in frame else None,
                share=sweep.info(gain).is_share,
            ),
            caption=(
                f"Each point is a model and an example{where}; {runs_and_seeds(best, gain)}. Bars: "
                f"{interval_words(means.over)}."
            ),
        ),
    )
