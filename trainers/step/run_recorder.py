"""Collects what a run shows as it goes, and turns it into the run's result."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

from sweeps.spec import RunSpec
from trainers.model.base_model import BaseModel
from trainers.protocol import Evaluation, RolloutText, RunResult
from trainers.run_result import accuracy_name
from trainers.step.rollout import Rollouts, rollouts_from_json
from trainers.step.update import Update

STEP_PARTS = ("rollout_s", "train_s")
"""Parts of wall time that count as an optimizer step's."""


class Stopwatch:
    """Cuts wall time into laps, leaving nothing out."""

    def __init__(self) -> None:
        self._last = perf_counter()

    def lap(self) -> float:
        """Seconds since the last lap, or since the start."""
        now = perf_counter()
        seconds, self._last = now - self._last, now
        return seconds


class RunRecorder:
    """Rows of one run."""

    def __init__(self, spec: RunSpec, base: BaseModel) -> None:
        self._spec = spec
        self._tokenizer = base.tokenizer
        self._rows: dict[int, dict[str, float | int | None]] = {}
        self._evaluations: list[Evaluation] = []
        self._shown: list[tuple[int, Rollouts, Sequence[int]]] = []
        self.logit_stats: Sequence[Mapping[str, Any]] = ()
        self._seconds: dict[str, float] = {}
        self._step_s = 0.0

    def took(self, part: str, seconds: float) -> None:
        """Add wall time to a part of the run, ``…_s``; of work shared with other runs, the whole of it."""
        self._seconds[part] = self._seconds.get(part, 0.0) + seconds
        if part in STEP_PARTS:
            self._step_s += seconds

    @property
    def rollouts(self) -> Rollouts | None:
        return self._shown[-1][1] if self._shown else None

    @property
    def first_rollouts(self) -> Rollouts:
        """The first step's rollouts: the base model's own."""
        return self._shown[0][1]

    def lr_of(self, step: int) -> float:
        """The learning rate of a step that was taken."""
        lr = self._rows[step]["lr"]
        assert lr is not None
        return lr

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": list(self._rows.values()),
            "result": RunResult(outcome="", evaluations=self._evaluations).to_json(),
            "shown": [
                [step, dataclasses.asdict(rollouts), list(numbers)] for step, rollouts, numbers in self._shown
            ],
        }

    def restore(self, data: Mapping[str, Any]) -> None:
        self._rows = {row["step"]: dict(row) for row in data["rows"]}
        self._evaluations = list(RunResult.from_json(data["result"]).evaluations)
        self._shown = [
            (step, rollouts_from_json(rollouts), numbers[0] if numbers else ())
            for step, rollouts, *numbers in data["shown"]
        ]

    def stepped(
        self,
        step: int,
        rollouts: Rollouts,
        update: Update,
        lr: float,
        measured: Mapping[str, float],
        numbers: Sequence[int] = (),
    ) -> None:
        """Record an optimizer step; ``step`` counts from 1.

        Args:
            measured: Further figures of the step.
            numbers: What each of its prompts is called; its number in the step unless given.
        """
        measured = dict(measured)
        for name in ("kl_nats", "nll_nats"):
            if (value := getattr(update, name)) is not None:
                measured[name] = value
        drawn: dict[str, float | int] = {}
        if rollouts.count:
            drawn = {"completion_tokens": rollouts.mean_tokens, "num_distinct": len(rollouts.count)}
            self._shown = [*self._shown[:1], (step - 1, rollouts, numbers)]
        self._rows[step] = {
            "step": step,
            "loss": update.loss,
            "entropy_nats": update.entropy_nats,
            "grad_norm": update.grad_norm,
            "lr": lr,
            **drawn,
            **measured,
            "wall_s": self._step_s,
        }
        self._step_s = 0.0

    def skipped(self, step: int, lr: float, measured: Mapping[str, float]) -> None:
        """Record an optimizer step that had nothing to train on and left the weights as they were."""
        self._rows[step] = {"step": step, "lr": lr, **measured, "wall_s": self._step_s}
        self._step_s = 0.0

    def evaluated(self, step: int, evaluations: Sequence[Evaluation]) -> dict[str, float | int | None]:
        """Record evaluations after ``step`` optimizer steps, and return all that is known of the step."""
        if not evaluations:
            return {}
        self._evaluations.extend(evaluations)
        row = self._rows.setdefault(step, {"step": step})
        row.update({accuracy_name(e, evaluations): e.accuracy for e in evaluations})
        return {name: value for name, value in row.items() if name != "step"}

    def result(self, outcome: str, layout: Mapping[str, Any]) -> RunResult:
        """The run's result; accuracies of a diverged run are those of its last evaluation, its gains
        absent.
        """
        return RunResult(
            outcome=outcome,
            metrics=self._metrics(outcome) | self._seconds | {"wall_s": sum(self._seconds.values())},
            steps=[self._rows[k] for k in sorted(self._rows)],
            evaluations=self._evaluations,
            rollouts=[
                text
                for step, rollouts, numbers in self._shown
                for text in _texts(step, rollouts, numbers, self._tokenizer)
            ],
            logit_stats=self.logit_stats,
            layout=dict(layout),
        )

    def _metrics(self, outcome: str) -> dict[str, float | int | str | None]:
        metrics: dict[str, float | int | str | None] = {}
        by_step: dict[int, list[Evaluation]] = {}
        for evaluation in self._evaluations:
            by_step.setdefault(evaluation.step, []).append(evaluation)
        columns = {
            step: {accuracy_name(e, judged): e.accuracy for e in judged} for step, judged in by_step.items()
        }
        final = columns.get(self._spec.steps, {}) if outcome == "done" else {}
        for name in columns[max(columns)] if columns else ():
            metrics[name] = final.get(name)
            base = columns.get(0, {}).get(name)
            metrics[f"base_{name}"] = base
            metrics[name.replace("accuracy", "gain")] = (
                final[name] - base if name in final and base is not None else None
            )
        losses = [row for row in self._rows.values() if "loss" in row]
        if losses:
            metrics["first_entropy_nats"] = losses[0]["entropy_nats"]
            metrics["last_entropy_nats"] = losses[-1]["entropy_nats"]
            metrics["steps_taken"] = len(losses)
        return metrics


def _texts(step: int, rollouts: Rollouts, numbers: Sequence[int], tokenizer: Any) -> list[RolloutText]:
    return [
        RolloutText(step=step, prompt=numbers[p] if numbers else p, text=tokenizer.decode(c), count=n)
        for p, c, n in zip(rollouts.prompt, rollouts.completion, rollouts.count, strict=True)
    ]
