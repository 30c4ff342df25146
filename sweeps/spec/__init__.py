"""What a run is: its configuration, frozen, checked and hashed. Standard library only.

run_spec        :class:`RunSpec`, the whole configuration, and its plain forms
data_groups     the groups that say what is trained on what: model, example, evaluation, resources
training_set    the group of a training set that a run walks over
curation        the group of rounds on the model's own completions, and in curation_rules what they keep
train_groups    the groups that say how: optimizer, schedule, sampling, engine
objective       what an optimizer step lowers
optimizers      what each optimizer reads, and where its state may be sharded
cross_checks    rules between groups
selection_rules which problems of a pool are worth training on
search_rules    which runs of a grid its question takes: a race over seeds
identity        from a configuration to the run_id
errors          what a user can cause and fix
text            numbers as people write them

The planner and the notebook import this package without Hydra or torch.
"""

from sweeps.spec.curation import CurateSpec
from sweeps.spec.data_groups import (
    EvalSpec,
    ExampleSpec,
    InitSpec,
    ModelSpec,
    ResourcesSpec,
    TrainerSpec,
)
from sweeps.spec.errors import (
    SpecError,
    nearest,
)
from sweeps.spec.identity import (
    RUN_ID_LENGTH,
    canonical_json,
    canonical_of,
    group_canonical,
    group_science,
    group_text,
    group_to_dict,
    join_run_id,
    joined_groups,
    joined_scalars,
    key_texts,
    lineage_canonical,
    text_of,
)
from sweeps.spec.objective import ObjectiveSpec
from sweeps.spec.objective_names import COMPAT_DEFECTS, GIVEN_OBJECTIVES, OBJECTIVES, ROLLOUT_OBJECTIVES
from sweeps.spec.run_spec import (
    GROUPS,
    SCALARS,
    RunSpec,
    changed_group,
    coerce_key,
    group_from_dict,
    group_type,
    known_keys,
    phases_of,
    rounds_of,
    run_id_of,
    spec_from_dict,
    spec_to_dict,
)
from sweeps.spec.train_groups import (
    SCHEDULES,
    EngineSpec,
    OptimSpec,
    SamplingSpec,
    ScheduleSpec,
)
from sweeps.spec.training_set import DataSpec

__all__ = [
    "COMPAT_DEFECTS",
    "GROUPS",
    "GIVEN_OBJECTIVES",
    "OBJECTIVES",
    "ROLLOUT_OBJECTIVES",
    "RUN_ID_LENGTH",
    "SCALARS",
    "SCHEDULES",
    "CurateSpec",
    "DataSpec",
    "EngineSpec",
    "EvalSpec",
    "ExampleSpec",
    "InitSpec",
    "ModelSpec",
    "ObjectiveSpec",
    "OptimSpec",
    "ResourcesSpec",
    "RunSpec",
    "SamplingSpec",
    "ScheduleSpec",
    "SpecError",
    "TrainerSpec",
    "canonical_json",
    "coerce_key",
    "group_canonical",
    "changed_group",
    "group_from_dict",
    "group_science",
    "group_text",
    "key_texts",
    "text_of",
    "canonical_of",
    "group_to_dict",
    "group_type",
    "join_run_id",
    "joined_groups",
    "joined_scalars",
    "known_keys",
    "lineage_canonical",
    "nearest",
    "phases_of",
    "rounds_of",
    "run_id_of",
    "spec_from_dict",
    "spec_to_dict",
]
