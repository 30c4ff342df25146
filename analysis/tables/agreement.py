"""How far two sweeps of the same runs agree, step by step: the same study computed in two layouts.

Same layout: every loss should be equal to the last bit. Across layouts (ranks, ZeRO stage, micro batch)
losses differ by rounding until a draw falls on the other side of the edge between two tokens; from there on a
run has other rollouts, and its losses are another sample's.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.data.sweep import SweepData
from sweeps.spec.errors import UserError

ROUNDING = 1e-6
"""Difference between losses, in nats, that the layouts' order of summation explains."""

PARTED = 1e-5
"""Difference beyond which two runs no longer see the same rollouts, or soon will not."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """What the losses and accuracies of the runs in common say."""

    runs: int
    """Runs that both sweeps have results of."""
    losses: int
    equal: int
    """Steps whose losses are the same to the last bit."""
    within_rounding: int
    """Steps whose losses differ by at most :data:`ROUNDING`."""
    max_abs_diff: float
    """Largest difference between two losses of the same step."""
    parted: int
    """Runs of which some loss differs by more than :data:`PARTED`."""
    first_parting: int | None
    """Earliest step at which a run parts."""
    same_accuracy: int
    """Runs whose accuracies at the end are all equal."""
    max_accuracy_diff: float
    """Largest difference between two accuracies of the same run."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        parting = f", the first at step {self.first_parting}" if self.parted else ""
        return (
            f"{self.runs:,} runs in common; of {self.losses:,} losses {self.equal:,} are equal to the last "
            f"bit and {self.within_rounding:,} within {ROUNDING:g}; {self.parted:,} runs part{parting}; "
            f"largest difference {self.max_abs_diff:.2g}; accuracies equal in {self.same_accuracy:,} runs, "
            f"at most {self.max_accuracy_diff:.2g} apart"
        )


def agreement(directory: str | Path, other: str | Path) -> Agreement:
    """Compare the runs that two sweep directories share, by run_id.

    Raises:
        UserError: for a directory that is no sweep, or when the two have no finished run in common.
    """
    first, second = SweepData.open(directory), SweepData.open(other)
    accuracies = [m for m in first.metrics if m.startswith("accuracy") and m in second.metrics]
    runs = _joined(first.runs(["run_id", *accuracies]), second.runs(["run_id", *accuracies]), ["run_id"])
    columns = ["run_id", "step", "loss"]
    steps = _joined(first.steps(columns).dropna(), second.steps(columns).dropna(), ["run_id", "step"])
    common = steps["run_id"].unique()
    if not len(common):
        raise UserError(f"{directory} and {other} have no finished run in common: nothing to compare")
    runs = runs[runs["run_id"].isin(common)]
    apart = (steps["loss"] - steps["loss_other"]).abs().to_numpy()
    parted = steps[apart > PARTED]
    gaps = np.array([(runs[m] - runs[f"{m}_other"]).abs() for m in accuracies]).reshape(len(accuracies), -1)
    return Agreement(
        runs=len(common),
        losses=len(steps),
        equal=int((apart == 0).sum()),
        within_rounding=int((apart <= ROUNDING).sum()),
        max_abs_diff=float(apart.max()),
        parted=int(parted["run_id"].nunique()),
        first_parting=int(parted["step"].min()) if len(parted) else None,
        same_accuracy=int((np.nan_to_num(gaps) == 0).all(axis=0).sum()),
        max_accuracy_diff=float(np.nan_to_num(gaps).max(initial=0.0)),
    )


def _joined(one: pd.DataFrame, other: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    return one.merge(other, on=keys, suffixes=("", "_other"))
