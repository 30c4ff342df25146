"""Rules between the groups of one run: what no group can check by itself. Pure."""

from __future__ import annotations

import math
import re
from fractions import Fraction

from sweeps.spec.curation import CurateSpec
from sweeps.spec.data_groups import EvalSpec, ExampleSpec, ModelSpec, ResourcesSpec, TrainerSpec
from sweeps.spec.errors import SpecError, shown
from sweeps.spec.mix import parts_of
from sweeps.spec.objective import ObjectiveSpec
from sweeps.spec.optimizers import OPTIMIZERS, unshardable
from sweeps.spec.text import counted
from sweeps.spec.train_groups import (
    CANDIDATES,
    LEAST_LOSSES,
    EngineSpec,
    OptimSpec,
    SamplingSpec,
    ScheduleSpec,
)
from sweeps.spec.training_set import DataSpec


def check_patterns(evaluation: EvalSpec, objective: ObjectiveSpec, curate: CurateSpec) -> None:
    """Refuse what is no regular expression, which would fail in every run.

    Raises:
        SpecError: naming the key and what the expression lacks.
    """
    require_pattern("eval.pattern", evaluation.pattern)
    require_pattern("objective.answer_pattern", objective.answer_pattern)
    require_pattern("curate.answer_pattern", curate.answer_pattern)


def require_pattern(key: str, pattern: str | None) -> None:
    try:
        re.compile(pattern or "")
    except (re.error, OverflowError, RecursionError) as error:
        raise SpecError(
            f"{key}={shown(pattern)}: is no regular expression ({error}); put a backslash before signs that "
            "stand for themselves"
        ) from None


def check_measured(evaluation: EvalSpec, objective: ObjectiveSpec) -> None:
    """Refuse measurements of rollouts where none are drawn.

    Raises:
        SpecError: naming the measurement.
    """
    if evaluation.logit_stats and not objective.draws_rollouts:
        raise SpecError(
            "eval.logit_stats=true: measures first rollouts, and "
            f"objective={objective.name} draws none; leave it out"
        )


def check_params(trainer: TrainerSpec) -> None:
    """Refuse parameters of a trainer that takes none: they would change the identity of runs and nothing
    else.
    """
    if trainer.params and trainer.target == TrainerSpec().target:
        key = f"trainer.params.{next(iter(trainer.params))}"
        raise SpecError(f"{key}: {trainer.target} reads no parameters; leave it out, or name an own trainer")


def check_trainable(model: ModelSpec, optim: OptimSpec, engine: EngineSpec) -> None:
    """Refuse to train parts of the weights where they must be whole.

    Raises:
        SpecError: for a decoder that keeps weights of its own, or half of weights that are frozen.
    """
    if model.adapter != "none" and engine.decoder == "vllm":
        raise SpecError(
            f"model.adapter={model.adapter!r}: engine.decoder=vllm reads whole weights only; set "
            "engine.decoder=cached"
        )
    if optim.half_every_steps and model.adapter != "none":
        raise SpecError(
            f"optim.half_every_steps={optim.half_every_steps}: halves whole weights, which "
            f"model.adapter={model.adapter} freezes; use one of them"
        )


def check_sharded(optim: OptimSpec, engine: EngineSpec, resources: ResourcesSpec) -> None:
    """Refuse an optimizer whose state cannot be sharded, or lie in host memory, as the engine asks.

    Raises:
        SpecError: naming what the optimizer does allow.
    """
    optimizer, stages = OPTIMIZERS[optim.name], OPTIMIZERS[optim.name].zero_stages
    if why := unshardable(optim.name, engine.zero_stage, resources.world_size):
        alone = stages and optimizer.one_rank and engine.zero_stage in stages
        fix = (
            f"set resources.world_size=1 or engine.zero_stage=0 (now {engine.zero_stage})"
            if alone
            else f"set engine.zero_stage to {' or '.join(map(str, stages))}"
            + (" (and engine.precision=fp32)" if stages == (0,) and engine.precision != "fp32" else "")
        )
        raise SpecError(
            f"optim.name={optim.name}: cannot be sharded by engine.zero_stage={engine.zero_stage} at "
            f"resources.world_size={resources.world_size}: {why}; {fix}, or choose another, such as "
            "optim=adamw"
        )
    if engine.offload and not optimizer.offloads:
        known = " or ".join(f"optim={name}" for name, other in OPTIMIZERS.items() if other.offloads)
        raise SpecError(
            f"optim.name={optim.name}: engine.offload keeps the state of {known} only in host memory; "
            "set engine.offload=false, or choose one of them"
        )


def check_norms(schedule: ScheduleSpec, steps: int) -> None:
    """Refuse norms of a first run of another length.

    Raises:
        SpecError: naming both lengths.
    """
    if schedule.norms and len(schedule.norms) != steps:
        raise SpecError(
            f"steps={steps}: schedule.norms_path={shown(schedule.norms_path)} holds the norms of "
            f"{counted(len(schedule.norms), 'step')}; run the first run for as many steps, or set steps="
            f"{len(schedule.norms)}"
        )


def check_probes(
    schedule: ScheduleSpec, trainer: TrainerSpec, objective: ObjectiveSpec, curate: CurateSpec
) -> None:
    """Refuse to try rates where no loss of each step tells what the optimizer minimizes.

    Raises:
        SpecError: naming what stands in the way.
    """
    if not schedule.probes:
        return
    if trainer.target != TrainerSpec().target:
        raise SpecError(
            f"schedule.name={schedule.name}: rates are tried by {TrainerSpec().target} alone, and this is "
            f"trainer.target={shown(trainer.target)}; choose another schedule"
        )
    if objective.defects:
        raise SpecError(
            f"schedule.name={schedule.name}: forecasts the loss that is minimized, at every step, and "
            f"objective.compat={objective.compat} reproduces a trainer that does not record it; leave compat "
            "out, or choose another schedule"
        )
    if curate.is_on:
        raise SpecError(
            f"schedule.name={schedule.name}: needs a loss at every step, and a round of curate.rounds="
            f"{curate.rounds} may keep nothing to train on; choose another schedule"
        )


def check_probed_length(schedule: ScheduleSpec, steps: int) -> None:
    """Refuse a run that ends before the rate that it found has been trained at.

    Raises:
        SpecError: naming the least number of steps.
    """
    every, least = schedule.probe_every_steps, CANDIDATES * LEAST_LOSSES
    if schedule.probes and steps < every:
        shorter = (
            f"or lower schedule.probe_every_steps to between {least} and {steps}"
            if steps >= least
            else f"or choose another schedule: forecasts need at least {least} steps (schedule."
            f"probe_every_steps={least})"
        )
        raise SpecError(
            f"steps={steps}: schedule={schedule.name} tries rates for every {every} steps "
            f"(schedule.probe_every_steps); set steps to at least {every}, {shorter}"
        )


def rollouts_per_prompt(sampling: SamplingSpec, example: ExampleSpec) -> int:
    """Rollouts of each prompt.

    Raises:
        SpecError: if the prompts do not share the rollouts evenly.
    """
    return _rollouts_each(sampling, len(example.prompts), _prompts_of(example))


def group_size(objective: ObjectiveSpec, sampling: SamplingSpec, example: ExampleSpec) -> int:
    """Rollouts that are compared with each other.

    Raises:
        SpecError: if a prompt's rollouts do not fall into whole groups, or a group leaves nothing to compare
            with.
    """
    return _group_size(objective, sampling, len(example.prompts), _prompts_of(example))


def _prompts_of(example: ExampleSpec) -> str:
    return f"the {len(example.prompts)} prompts of example {shown(example.name)}"


def _rollouts_each(sampling: SamplingSpec, num_prompts: int, prompts: str) -> int:
    """Rollouts of each of so many prompts, which messages call ``prompts``."""
    each, rest = divmod(sampling.num_rollouts, num_prompts)
    if rest or not each:
        near = max(1, each) * num_prompts
        raise SpecError(
            f"sampling.num_rollouts={sampling.num_rollouts}: must be a multiple of {prompts}, such as {near}"
        )
    return each


def _group_size(objective: ObjectiveSpec, sampling: SamplingSpec, num_prompts: int, prompts: str) -> int:
    drawn = _rollouts_each(sampling, num_prompts, prompts)
    each = objective.trained_per_prompt or drawn
    if each > drawn:
        raise SpecError(
            f"objective.trained_per_prompt={each}: only {drawn} rollouts of a prompt are drawn; draw more "
            f"(sampling.num_rollouts={each * num_prompts}), or train on fewer"
        )
    size = objective.group_size or each
    if each % size:
        trained = "objective.trained_per_prompt" if objective.trained_per_prompt else "sampling.num_rollouts"
        raise SpecError(
            f"objective.group_size={size}: the {each} rollouts of a prompt do not fall into groups of "
            f"{size}; set it to a divisor, or to 0 for one group, or change {trained}"
        )
    if size == 1 and objective.is_relative:
        where = "objective.group_size=1" if objective.group_size else f"sampling.num_rollouts={each}"
        raise SpecError(
            f"{where}: objective.advantage={objective.advantage} compares rollouts of one group, and a group "
            "of one has nothing to compare with; use at least 2, or objective.advantage=raw"
        )
    return size


def check_fit(objective: ObjectiveSpec, sampling: SamplingSpec, example: ExampleSpec, data: DataSpec) -> None:
    """Refuse an objective that cannot be computed on these prompts with these rollouts.

    Raises:
        SpecError: for rollouts that do not share out, a group of one, or a reward that lacks its label.
    """
    if data.is_set:
        _check_fit_of_set(objective, sampling, example, data)
        return
    if objective.targets and not data.targets:
        raise SpecError(
            f"objective={objective.name}: trains on given {objective.targets}, and an example has prompts "
            "only; name a training set that has them (data=file data.path=FILE)"
        )
    if not example.prompts or not objective.draws_rollouts:
        return
    group_size(objective, sampling, example)
    labelled = len(example.answers) == len(example.prompts) and all(example.answers)
    if objective.reward_verified and not labelled:
        raise SpecError(
            f"objective.reward_verified={objective.reward_verified:g}: needs a label, and example "
            f"{shown(example.name)} has none; name the column that holds it (example.answer_field=answer), "
            "or take a reward without labels, such as objective=majority"
        )


def _check_fit_of_set(
    objective: ObjectiveSpec, sampling: SamplingSpec, example: ExampleSpec, data: DataSpec
) -> None:
    label, num = shown(data.label), data.prompts_per_step
    if example.prompts:
        raise SpecError(
            f"data={label}: example {shown(example.name)} names prompts too; train on one of them: leave out "
            "example, or data"
        )
    if objective.defects:
        raise SpecError(
            f"objective.compat={objective.compat}: reproduces a trainer that has no training set; give it an "
            "example, or leave compat out"
        )
    if num > data.num_rows > 0:
        raise SpecError(
            f"data.prompts_per_step={num}: {label} has {counted(data.num_rows, 'row')}; take at most as many "
            "a step"
        )
    for part in parts_of(data) if data.mix else ():
        share = Fraction(num * part.weight, sum(other.weight for other in parts_of(data)))
        if math.ceil(share) > part.data.num_rows:
            raise SpecError(
                f"data.mix.{part.name}: has {part.data.num_rows:,} rows, fewer than the {float(share):.3g} "
                f"that its weight gives it of data.prompts_per_step={num}; lower one of them"
            )
    if objective.targets and data.targets != objective.targets:
        raise SpecError(
            f"data.targets={data.targets!r}: objective={objective.name} trains on given {objective.targets}; "
            "it is filled in when a sweep is composed, so leave it out there"
        )
    if objective.preference == "kto" and num < 2:
        raise SpecError(
            f"data.prompts_per_step={num}: objective=kto compares each row with its prompt before another "
            "row's completion; take at least 2 rows a step"
        )
    if objective.draws_rollouts:
        _group_size(objective, sampling, num, f"data.prompts_per_step={num}")
    if objective.reward_verified and not data.has_answers:
        raise SpecError(
            f"objective.reward_verified={objective.reward_verified:g}: needs a label in every row, and "
            f"{_unlabelled(data)}; name the column that holds it (data.answer_field=answer), or take a "
            "reward without labels, such as objective=majority"
        )


def _unlabelled(data: DataSpec) -> str:
    """Which set has no labels."""
    lacking = [part.name for part in parts_of(data) if not part.data.has_answers] if data.mix else []
    return f"data.mix.{lacking[0]} has none" if lacking else f"{shown(data.label)} has none"
