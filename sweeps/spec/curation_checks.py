"""Rules between ``curate`` and the other groups of a run. Pure."""

from __future__ import annotations

from sweeps.spec.curation import CurateSpec
from sweeps.spec.data_groups import InitSpec
from sweeps.spec.errors import SpecError, shown
from sweeps.spec.objective import ObjectiveSpec
from sweeps.spec.training_set import DataSpec


def check_curation(curate: CurateSpec, data: DataSpec, objective: ObjectiveSpec) -> None:
    """Refuse rounds without a pool of prompts, its right answers, or a loss on what they keep.

    Raises:
        SpecError: naming what is missing and how to give it.
    """
    if not curate.is_on:
        return
    what = f"curate={curate.name}"
    if not data.is_set:
        raise SpecError(
            f"{what}: writes completions of a training set's prompts, and these runs train on an example; "
            "name a set with data, such as data=addition, or leave curate out"
        )
    if data.mix:
        raise SpecError(
            f"{what}: takes its prompts from one training set, and data.mix names {len(data.mix)}; name one "
            "with data.path"
        )
    if objective.targets != "completions" or objective.draws_rollouts:
        raise SpecError(
            f"{what}: trains on what a round keeps by its likelihood alone, which objective={objective.name} "
            "does not; choose objective=sft, or leave curate out"
        )
    if curate.name == "escaping_collapse" and not data.has_answers:
        raise SpecError(
            f"{what}: needs a right answer in every row, and {shown(data.label)} has none; name the column "
            "that holds it (data.answer_field=answer), or choose curate=uncurated, which reads none"
        )
    if curate.prompts > data.num_rows > 0:
        raise SpecError(
            f"curate.prompts={curate.prompts}: {shown(data.label)} has {data.num_rows:,} rows; take at most "
            "as many a round, or 0 for all"
        )


def check_rounds(curate: CurateSpec, steps: int) -> None:
    """Refuse steps that do not fall into rounds of equal length.

    Raises:
        SpecError: naming the next number of steps that does.
    """
    if steps % curate.num_rounds:
        near = -(-steps // curate.rounds) * curate.rounds
        raise SpecError(
            f"steps={steps}: are those of all rounds together, and curate.rounds={curate.rounds} takes an "
            f"equal share for each; set a multiple of it, such as {near}"
        )


def check_start(curate: CurateSpec, init: InitSpec) -> None:
    """Refuse rounds that begin at another run of the sweep.

    Raises:
        SpecError: naming what can be done instead.
    """
    if curate.is_on and init.changes:
        raise SpecError(
            f"init_from: rounds (curate={curate.name}) begin at the base model or at kept weights "
            "(SWEEP_DIR/RUN_ID), not at another run of the sweep; leave init_from out of these runs"
        )
