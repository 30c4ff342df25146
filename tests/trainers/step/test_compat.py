from __future__ import annotations

import pytest

from sweeps.spec import COMPAT_DEFECTS, ObjectiveSpec, SpecError
from tests.trainers.worlds import tiny_spec
from trainers.model.base_model import BaseModel
from trainers.step.compat import dealing, padding_ids, updates_by

UPSTREAM = ObjectiveSpec(compat="upstream")


def test_names_join_and_upstream_means_all_of_them():
    assert tiny_spec().objective.defects == frozenset()
    assert tiny_spec(objective={"compat": "upstream"}).objective.defects == frozenset(COMPAT_DEFECTS)
    objective = tiny_spec(objective={"compat": "micro_steps+shared_noise"}).objective
    assert objective.defects == {"micro_steps", "shared_noise"}


def test_an_unknown_defect_is_refused_with_the_nearest_name():
    with pytest.raises(SpecError, match="unshifted_mask"):
        tiny_spec(objective={"compat": "unshifted_masks"})


@pytest.mark.parametrize("compat", ["micro_batch_means", "bf16_entropy", "rank0_loss"])
@pytest.mark.parametrize(
    "parts", [{"reward_format": 1.0, "entropy_weight": 0.0}, {"kl_coef": 0.1}, {"aggregation": "sum"}]
)
def test_how_a_mean_of_entropies_is_computed_is_no_question_of_other_losses(compat, parts):
    with pytest.raises(SpecError, match="mean of token entropies"):
        ObjectiveSpec(compat=compat, **parts)


def test_a_step_is_an_update_unless_micro_steps_are_counted():
    assert [updates_by(s, 64, ObjectiveSpec()) for s in range(4)] == [0, 1, 2, 3]
    # 64 rollouts by 2 on 8 GPUs are four micro batches an update: the published "step 10" is two updates.
    micro = ObjectiveSpec(compat="micro_steps")
    assert [updates_by(s, 64, micro) for s in range(11)] == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2]
    one = ObjectiveSpec(compat="micro_steps", compat_world_size=1)
    assert [updates_by(s, 64, one) for s in (10, 31, 32, 64)] == [0, 0, 1, 2]
    # On three GPUs 64 // 6 micro batches make an update.
    three = ObjectiveSpec(compat="micro_steps", compat_world_size=3)
    assert [updates_by(s, 64, three) for s in (9, 10, 19, 20)] == [0, 1, 1, 2]


def test_shared_noise_makes_eight_copies_of_eight_rollouts():
    rows = dealing(UPSTREAM, 64, 1, 0, 0).noise_rows()
    assert sorted(set(rows)) == list(range(8))
    assert all(rows.count(row) == 8 for row in range(8))
    rows = dealing(ObjectiveSpec(compat="upstream", compat_world_size=2), 64, 1, 0, 0).noise_rows()
    assert all(rows.count(row) == 2 for row in range(32))


def test_a_single_prompts_rollouts_are_dealt_in_order_and_those_of_several_anew_each_step():
    assert dealing(UPSTREAM, 64, 1, 3, 5).order == list(range(64))
    deals = [dealing(UPSTREAM, 64, 2, seed, step).order for seed in (0, 1) for step in (0, 1)]
    assert all(sorted(order) == list(range(64)) for order in deals)
    assert len({tuple(order) for order in deals}) == 4


def test_the_padding_of_the_published_trainer_is_the_tokenizers_or_its_eos():
    apart = BaseModel(location="", tokenizer=None, eos_ids=(2, 3), pad_id=0)
    same = BaseModel(location="", tokenizer=None, eos_ids=(2, 3), pad_id=2)
    named = ObjectiveSpec(compat="eos_as_padding")
    assert padding_ids(apart, UPSTREAM) == {0}
    assert padding_ids(same, UPSTREAM) == padding_ids(same, named) == {2}
    assert padding_ids(apart, named) == {2, 3}
    assert padding_ids(same, ObjectiveSpec(compat="micro_steps")) == frozenset()
