"""One round of curation: completions drawn from the model, filtered and labelled, as a set to train on.

What is kept is decided by :func:`sweeps.spec.curation_rules.curate`. Every draw is counter-based, keyed by
(seed, round, place of the prompt or completion in the round), so that a round is the same on any number of
ranks, in a run of more rounds, and where a killed run begins it again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sweeps.manifest.training_rows import TrainingRow
from sweeps.manifest.training_set import training_set
from sweeps.sharing.row_schedule import RowSchedule
from sweeps.spec import RunSpec
from sweeps.spec.curation_rules import Curated, Draws, curate
from trainers.model.target_encoding import GivenSequence, encode_given
from trainers.noise import Stream, uniforms
from trainers.step.experience import TrainContext
from trainers.step.forward import without_gradients
from trainers.step.prompts import StepPrompts, asked_of_rows
from trainers.step.rollout import Rollouts, draw_rollouts


@dataclass(frozen=True)
class Mixture:
    """What the steps of a round train on."""

    spec: RunSpec
    """The run after the round."""
    sequences: Sequence[GivenSequence]
    """Kept completions and labels with their prompts, in the order of the round's prompts."""
    numbers: Sequence[int]
    """Row of the training set that each one belongs to."""
    counts: Mapping[str, float]
    """Figures of the round, for the record of its first step."""

    def at(self, step: int) -> StepPrompts | None:
        """What optimizer step ``step`` of the run trains on; ``None`` where the round kept nothing."""
        if not self.sequences:
            return None
        chosen = self._schedule.batch(step - self.spec.steps_before - 1)
        numbers = [self.numbers[k] for k in chosen]
        given = [self.sequences[k] for k in chosen]
        rows = training_set(self.spec.data).rows(numbers)
        return StepPrompts(ids=(), numbers=tuple(numbers), rows=rows, given=given)

    def measured(self, step: int) -> dict[str, float]:
        """Figures for a step's record: the round, from 1, and at its first step what became of it."""
        counts = self.counts if step == self.spec.steps_before + 1 else {}
        return {"round": self.spec.curate.rounds, **counts}

    @cached_property
    def _schedule(self) -> RowSchedule:
        data = dataclasses.replace(self.spec.data, num_rows=len(self.sequences), order="shuffle")
        return RowSchedule(data, self.spec.seed, walk=self.spec.curate.rounds)

    def to_json(self) -> dict[str, Any]:
        return {
            "sequences": [[list(s.ids), list(s.counted)] for s in self.sequences],
            "numbers": list(self.numbers),
            "counts": dict(self.counts),
        }


def mixture_from_json(spec: RunSpec, data: Mapping[str, Any]) -> Mixture:
    sequences = [GivenSequence(ids=tuple(ids), counted=tuple(counted)) for ids, counted in data["sequences"]]
    return Mixture(spec, sequences, data["numbers"], data["counts"])


def round_prompts(spec: RunSpec) -> list[int]:
    """Rows of the training set whose prompts a run's last round takes."""
    data, curate = spec.data, spec.curate
    if not curate.prompts:
        return list(range(data.num_rows))
    walk = dataclasses.replace(data, prompts_per_step=curate.prompts)
    return RowSchedule(walk, spec.seed, training_set(data).difficulty).batch(curate.rounds - 1)


def draws_of(spec: RunSpec, num_prompts: int) -> Draws:
    """The random numbers of a run's last round."""

    def drawn(what: int, num: int) -> np.ndarray:
        return uniforms(spec.seed, Stream.CURATION, spec.curate.rounds, what, num)

    return Draws(
        flip_R=drawn(0, num_prompts * spec.curate.completions),
        label_P=drawn(1, num_prompts),
        other_P=drawn(2, num_prompts),
    )


def curated(context: TrainContext) -> Mixture:
    """Draw, filter and label a run's last round with the engine's weights; every rank must call it.

    Raises:
        SpecError: for a prompt or a completion that is too long.
    """
    spec, base = context.spec, context.base
    numbers = round_prompts(spec)
    rows = training_set(spec.data).rows(numbers)
    prompts = asked_of_rows(spec, base, rows, numbers)
    rollouts = _drawn(context, prompts)
    right_R = None
    if spec.data.has_answers:
        asked = prompts.of_step(spec)
        right_D = context.rewards.are_right(asked, base, rollouts, spec.curate.answer_pattern)
        right_R = right_D[np.array(rollouts.distinct)]
    answers = [row.answer for row in rows]
    verdict_R = np.zeros(len(rollouts.distinct), dtype=bool) if right_R is None else right_R
    found = curate(spec.curate, verdict_R, answers, draws_of(spec, len(rows)))
    sequences, owners = _trained_on(context, rows, prompts, rollouts, found)
    return Mixture(
        spec, sequences, [numbers[k] for k in owners], _counts(spec, found, right_R, len(sequences))
    )


def _drawn(context: TrainContext, prompts: StepPrompts) -> Rollouts:
    """Completions of the round's prompts."""
    curate, spec = context.spec.curate, prompts.of_step(context.spec)
    num_rollouts = len(prompts.ids) * curate.completions
    sampling = dataclasses.replace(spec.sampling, num_rollouts=num_rollouts)
    with without_gradients(spec):
        return draw_rollouts(
            context.engine.module,
            dataclasses.replace(spec, sampling=sampling),
            context.base,
            prompts.ids,
            step=curate.rounds - 1,
            gang=context.gang,
            drafts=None,
        )


def _trained_on(
    context: TrainContext,
    rows: Sequence[TrainingRow],
    prompts: StepPrompts,
    rollouts: Rollouts,
    found: Curated,
) -> tuple[list[GivenSequence], list[int]]:
    """What is trained on, and the place of the prompt of each, in the order of prompts."""
    data, each = context.spec.data, context.spec.curate.completions
    sequences, owners = [], []
    for place, (row, prompt) in enumerate(zip(rows, prompts.ids, strict=True)):
        for number in np.flatnonzero(found.kept_R[place * each : (place + 1) * each]).tolist():
            completion = rollouts.completion[rollouts.distinct[place * each + number]]
            if completion:
                ids = (*prompt, *completion)
                sequences.append(GivenSequence(ids=ids, counted=tuple(range(len(prompt), len(ids)))))
                owners.append(place)
        label = place if found.mended_P[place] else int(found.misled_P[place])
        if label >= 0:
            given = dataclasses.replace(row, given_json=rows[label].given_json)
            sequences += encode_given([given], data, context.base)
            owners.append(place)
    return sequences, owners


def _counts(spec: RunSpec, found: Curated, right_R: np.ndarray | None, num_trained: int) -> dict[str, float]:
    counts: dict[str, float] = {
        "drawn": len(found.kept_R),
        "kept": int(found.kept_R.sum()),
        "failed": int(found.failed_P.sum()),
        "labelled": int((found.mended_P | (found.misled_P >= 0)).sum()),
        "labelled_wrong": int((found.misled_P >= 0).sum()),
        "trained": num_trained,
    }
    if right_R is not None:
        counts |= {"right": int(right_R.sum()), "kept_wrong": int((found.kept_R & ~right_R).sum())}
    return {f"round_{name}": number for name, number in counts.items()}
