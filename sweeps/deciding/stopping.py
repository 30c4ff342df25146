"""Says of a run's values so far whether it should go on. No file, clock or process is touched.

Optuna's pruners do the comparing; what they have been told is all that they know.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from sweeps.deciding.optuna_extra import optuna_for
from sweeps.spec.prune_rules import PruneSpec

if TYPE_CHECKING:
    import optuna


class EarlyStopping:
    """A pruner over the runs of a sweep, which are told apart by whatever names the caller gives them."""

    def __init__(self, spec: PruneSpec, *, maximize: bool) -> None:
        """Begin without a run.

        Raises:
            SpecError: where Optuna is not installed.
        """
        self._optuna = optuna_for(f"prune={spec.kind}")
        direction = "maximize" if maximize else "minimize"
        self._study: optuna.Study = self._optuna.create_study(direction=direction, pruner=self._pruner(spec))
        self._trials: dict[str, optuna.Trial] = {}
        self._newest: dict[str, int] = {}
        self._over: set[str] = set()

    def report(self, run: str, step: int, value: float) -> bool:
        """Take a run's value at a step, an integer from 0; true when it should be stopped there.

        A step that is not behind those before is passed over: of two values at one step the first counts.
        """
        if run in self._over or step <= self._newest.get(run, -1):
            return False
        if run not in self._trials:
            self._trials[run] = self._study.ask()
        self._newest[run] = step
        trial = self._trials[run]
        trial.report(value, step)
        return bool(trial.should_prune())

    def ended(self, run: str, value: float | None) -> None:
        """A run is over: with its value at the end, or without one, as when it was stopped or failed."""
        if run in self._over:
            return
        self._over.add(run)
        trial = self._trials.pop(run, None)
        if trial is None:
            return
        if value is None:
            self._study.tell(trial, state=self._optuna.trial.TrialState.PRUNED)
        else:
            self._study.tell(trial, value)

    def _pruner(self, spec: PruneSpec) -> Any:
        pruners = self._optuna.pruners
        match spec.kind:
            case "asha":
                return pruners.SuccessiveHalvingPruner(
                    min_resource=spec.min_steps, reduction_factor=spec.reduction
                )
            case "median":
                return pruners.MedianPruner(n_startup_trials=spec.startup_runs, n_warmup_steps=spec.min_steps)
            case _:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # that this pruner is new to Optuna
                    return pruners.WilcoxonPruner(p_threshold=spec.p, n_startup_steps=spec.min_steps)
