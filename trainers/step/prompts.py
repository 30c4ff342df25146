"""The prompts of each optimizer step: those of the example at every step, or a training set's, step by step.

Prompts of a training set enter a step as an example of that step's rows. So whatever reads the prompts or
right answers of ``spec.example`` reads the step's, and a set of one prompt trains as the same example does.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from sweeps.manifest.prompts import PROMPTS_COUNTED
from sweeps.manifest.training_rows import TrainingRow
from sweeps.manifest.training_set import training_set
from sweeps.sharing.mix_schedule import MixSchedule
from sweeps.sharing.row_schedule import RowSchedule
from sweeps.spec import CurateSpec, DataSpec, ExampleSpec, RunSpec
from sweeps.spec.training_set import batch_number
from trainers.model.base_model import BaseModel
from trainers.model.encoded_rows import EncodedRows
from trainers.model.prompt_encoding import encode_example, encode_messages, encode_prompts
from trainers.model.target_encoding import GivenSequence, prompt_messages

_ENCODED = EncodedRows()


@dataclass(frozen=True, kw_only=True)
class StepPrompts:
    """What a step trains on."""

    ids: Sequence[Sequence[int]]
    """Token ids of each prompt."""
    numbers: Sequence[int]
    """What each prompt is called in records: its number in the example, or its row in the training set."""
    rows: Sequence[TrainingRow] = ()
    """The rows of a training set that they are; empty for an example."""
    given: Sequence[GivenSequence] = ()
    """What the rows give to train on, where the objective does."""
    of_sets: Mapping[str, int] = field(default_factory=dict)
    """Prompts of each set of a mix."""

    @property
    def measured(self) -> dict[str, int]:
        """Columns of the step's record: the prompts of each set of a mix."""
        return {f"prompts_{name}": num for name, num in self.of_sets.items()}

    def of_step(self, spec: RunSpec) -> RunSpec:
        """What a run asks of this one step."""
        if not spec.data.is_set:
            return spec
        # The keys under which steps are shared tell steps apart whose tokens differ, as those of rows with
        # system messages of their own and of rows that were cut do.
        told = json.dumps([self.ids, [(s.ids, s.counted, s.role, s.desirable) for s in self.given]])
        return dataclasses.replace(
            spec,
            example=_example_of_rows(spec.data, self.rows),
            data=DataSpec(targets=spec.data.targets, digest=hashlib.sha256(told.encode()).hexdigest()),
            curate=CurateSpec(),
            steps=spec.own_steps,
        )


class Prompts:
    """The prompts of one run, or of several that train on the same.

    Raises:
        SpecError: for a prompt that is too long or empty, or a training set that has changed.
    """

    def __init__(self, spec: RunSpec, base: BaseModel) -> None:
        self._spec, self._base = spec, base
        if spec.data.is_set:
            self._set = training_set(spec.data)
            schedule = MixSchedule if spec.data.mix else RowSchedule
            self._schedule = schedule(spec.data, spec.seed, self._set.difficulty)
        else:
            ids = encode_prompts(spec, base)
            self._same = StepPrompts(ids=ids, numbers=range(len(ids)))
        self._batch = lru_cache(maxsize=4)(self._read_batch)

    def at(self, step: int) -> StepPrompts:
        """Those of optimizer step ``step``, from 1."""
        if not self._spec.data.is_set:
            return self._same
        return self._batch(batch_number(step, self._spec.objective.iterations))

    def are_those_before(self, step: int) -> bool:
        """Whether the step before has the same prompts, whose rollouts are then likely to come again."""
        return not self._spec.data.is_set or (step > 1 and self.at(step - 1).numbers == self.at(step).numbers)

    def _read_batch(self, number: int) -> StepPrompts:
        numbers = self._schedule.batch(number)
        prompts = _of_rows(self._spec, self._base, self._set.rows(numbers), numbers)
        if isinstance(self._schedule, MixSchedule):
            return dataclasses.replace(prompts, of_sets=self._schedule.prompts_of_sets(numbers))
        return prompts


def longest_prompt(spec: RunSpec, base: BaseModel) -> int:
    """Tokens of the longest prompt that a run may meet: of a training set, among its longest texts."""
    if not spec.data.is_set:
        return max(map(len, encode_prompts(spec, base)))
    rows = training_set(spec.data).longest(PROMPTS_COUNTED)
    return max(map(len, asked_of_rows(spec, base, rows, range(len(rows))).ids))


def asked_of_rows(
    spec: RunSpec, base: BaseModel, rows: Sequence[TrainingRow], numbers: Sequence[int]
) -> StepPrompts:
    """The prompts of some rows of a training set, without what the rows give.

    Raises:
        SpecError: for a prompt that is too long or empty.
    """
    data, example = spec.data, _example_of_rows(spec.data, rows)
    systems = [row.system if row.system is not None else data.system for row in rows]
    ids = encode_example(example, spec.sampling, base, systems)
    for number, row in enumerate(rows):
        if row.given_json is not None and row.given.context:
            ids[number] = encode_messages(prompt_messages(row, data), spec.sampling, base)
    return StepPrompts(ids=ids, numbers=tuple(numbers), rows=rows)


def _example_of_rows(data: DataSpec, rows: Sequence[TrainingRow]) -> ExampleSpec:
    return ExampleSpec(
        name=data.name,
        prompts=tuple(row.prompt for row in rows),
        answers=tuple(row.answer for row in rows) if data.has_answers else (),
        system=data.system,
        system_role=data.system_role,
        template=data.template,
        format=data.format,
    )


def _of_rows(
    spec: RunSpec, base: BaseModel, rows: Sequence[TrainingRow], numbers: Sequence[int]
) -> StepPrompts:
    if not spec.objective.targets:
        return asked_of_rows(spec, base, rows, numbers)
    ids = asked_of_rows(spec, base, rows, numbers).ids if spec.objective.draws_rollouts else ()
    return StepPrompts(
        ids=ids,
        numbers=tuple(numbers),
        rows=rows,
        given=_ENCODED.of(rows, spec.data, base),
    )
