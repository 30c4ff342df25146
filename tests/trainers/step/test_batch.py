from __future__ import annotations

import pytest
import torch

from sweeps.spec import ObjectiveSpec
from trainers.model.base_model import BaseModel
from trainers.step.batch import StepBatch, step_batch
from trainers.step.compat import Dealing, is_dealt
from trainers.step.rollout import merge

BASE = BaseModel(location="", tokenizer=None, eos_ids=(2,), pad_id=0)
PROMPTS = [[5, 5, 5], [6, 6, 6, 6, 6]]
ROLLOUTS = merge([0] * 6 + [1] * 2, [*[(7, 2)] * 5, (8, 8, 8, 2), (9,), (9,)])


def dealing_in_order(objective: ObjectiveSpec) -> Dealing:
    """Micro batches of the rollouts as they were drawn: prompt 0 six times, then prompt 1 twice."""
    return Dealing(
        order=range(8), world_size=objective.compat_world_size, micro_batch=objective.compat_micro_batch
    )


def batch(size: int = 0, rank: int = 0, world_size: int = 1, compat: str = "exact", **published) -> StepBatch:
    objective = ObjectiveSpec(compat=compat, **published)
    return step_batch(
        ROLLOUTS,
        PROMPTS,
        size=size,
        rank=rank,
        world_size=world_size,
        base=BASE,
        device=torch.device("cpu"),
        objective=objective,
        dealt=dealing_in_order(objective) if is_dealt(objective.defects) else None,
    )


def counted(step: StepBatch) -> list[tuple[list[int], int]]:
    """The tokens that each row of weight above zero is trained on, in order, with the weight."""
    rows = []
    for micro_batch in step.micro_batches:
        first = micro_batch.ids_BT.shape[1] - micro_batch.num_logits
        for ids, mask, weight in zip(
            micro_batch.ids_BT, micro_batch.mask_BK, micro_batch.weight_B, strict=True
        ):
            following = [*ids.tolist()[1:], None]
            tokens = [following[first + k] for k in mask.nonzero().flatten().tolist()]
            if weight:
                rows.append((tokens, int(weight)))
    return rows


def test_every_completion_token_counts_once_with_its_multiplicity():
    # The longest row's last token is not fed, so nothing follows its last position in the input.
    assert counted(batch()) == [([7, 2], 5), ([8, 8, 8, None], 1), ([9], 2)]
    assert batch().num_tokens == 2 * 5 + 4 * 1 + 1 * 2


@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("size", [0, 1, 2])
def test_shares_add_up_to_the_whole_and_ranks_run_equally_many_forwards(size, world_size):
    shares = [batch(size, rank, world_size) for rank in range(world_size)]
    rows = [row for share in shares for row in counted(share)]
    assert sorted(map(str, rows)) == sorted(map(str, counted(batch())))
    assert len({len(share.micro_batches) for share in shares}) == 1
    assert len({micro_batch.ids_BT.shape for share in shares for micro_batch in share.micro_batches}) == 1
    assert {share.num_tokens for share in shares} == {16}


def test_eos_as_padding_drops_the_end_token_and_only_that():
    step = batch(compat="eos_as_padding")
    assert counted(step) == [([7], 5), ([8, 8, 8], 1), ([9], 2)]
    assert step.num_tokens == 1 * 5 + 3 * 1 + 1 * 2


def test_unshifted_mask_misses_the_first_prediction_and_takes_the_one_after_the_last():
    step = batch(compat="unshifted_mask")
    [micro_batch] = step.micro_batches
    positions = [row.nonzero().flatten().tolist() for row in micro_batch.mask_BK]
    first = micro_batch.ids_BT.shape[1] - micro_batch.num_logits
    assert [[p + first for p in row] for row in positions] == [[3, 4], [3, 4, 5, 6], [5]]


def test_padded_lengths_leak_prompt_positions_of_the_shorter_prompt():
    step = batch(compat="padded_lengths", compat_micro_batch=8)
    # The 3-token prompt stands at indices 2..4 of 5; index 3 on counts, so its tokens 1 and 2 leak in.
    assert counted(step)[0] == ([5, 5, 7, 2], 5)
    assert counted(step)[2] == ([9], 2)


def test_a_prompt_is_padded_to_the_widest_of_its_own_micro_batch():
    # In twos no micro batch holds both prompts; in threes the last one does: rollouts 6 and 7 with none of
    # prompt 0, and rollouts 3 to 5 among themselves. In fours rollouts 4 and 5 share one with 6 and 7.
    assert counted(batch(compat="padded_lengths")) == counted(batch())
    step = batch(compat="padded_lengths", compat_micro_batch=4)
    assert counted(step) == [([7, 2], 4), ([5, 5, 7, 2], 1), ([5, 5, 8, 8, 8, None], 1), ([9], 2)]
    assert step.num_tokens == 2 * 4 + 4 + 6 + 1 * 2


def test_the_divisor_counts_what_the_mask_counts():
    # A prompt of one token beside one of three: its first token would be predicted by nothing.
    rollouts = merge([0, 1], [(7, 2), (9,)])
    step = step_batch(
        rollouts,
        [[5], [6, 6, 6]],
        size=0,
        rank=0,
        world_size=1,
        base=BASE,
        device=torch.device("cpu"),
        objective=ObjectiveSpec(compat="padded_lengths"),
        dealt=Dealing(order=[0, 1], world_size=1, micro_batch=2),
    )
    [micro_batch] = step.micro_batches
    assert step.num_tokens == int(micro_batch.mask_BK.sum()) == 3


def test_an_eos_inside_a_prompt_is_padding_too():
    prompts = [[5, 2, 5, 5], [6, 6, 6, 6]]
    rollouts = merge([0, 1], [(7, 2), (9,)])
    both = "eos_as_padding+padded_lengths"
    for compat, expected in (("eos_as_padding", [[7], [9]]), (both, [[5, 7], [9]])):
        objective = ObjectiveSpec(compat=compat)
        step = step_batch(
            rollouts,
            prompts,
            size=0,
            rank=0,
            world_size=1,
            base=BASE,
            device=torch.device("cpu"),
            objective=objective,
            dealt=Dealing(order=[0, 1], world_size=1, micro_batch=2),
        )
        assert [tokens for tokens, _ in counted(step)] == expected
        [micro_batch] = step.micro_batches
        assert micro_batch.attended_BT.tolist() == [[1, 0, 1, 1, 1], [1, 1, 1, 1, 1]]


def test_weights_of_micro_batch_means_give_each_micro_batch_the_same_say():
    step = batch(compat="micro_batch_means", compat_micro_batch=4)
    [micro_batch] = step.micro_batches
    # Four of (7, 2): 8 tokens. Then (7, 2), (8, 8, 8, 2) and two of (9,): 8 tokens.
    expected = [4 / 8 + 1 / 8, 1 / 8, 2 / 8]
    assert (micro_batch.loss_weight_B / step.num_tokens).tolist() == pytest.approx([e / 2 for e in expected])
    assert micro_batch.weight_B.tolist() == [5, 1, 2]


def test_the_logged_micro_batch_is_the_last_one_of_rank_0():
    step = batch(compat="rank0_loss", compat_world_size=2)
    # Four micro batches of two over two ranks: the third one is rank 0's last, rollouts 4 and 5.
    [micro_batch] = step.micro_batches
    assert micro_batch.logged_B.tolist() == [1, 1, 0]
    assert step.logged_tokens == 2 + 4
