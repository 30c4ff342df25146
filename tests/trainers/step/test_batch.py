from __future__ import annotations

import pytest
import torch

from tests.trainers.worlds import tiny_spec
from trainers.model.base_model import BaseModel
from trainers.step.batch import StepBatch, step_batch
from trainers.step.compat import defects_of
from trainers.step.rollout import merge

BASE = BaseModel(location="", tokenizer=None, eos_ids=(2,), pad_id=0)
PROMPTS = [[5, 5, 5], [6, 6, 6, 6, 6]]
ROLLOUTS = merge([0] * 6 + [1] * 2, [*[(7, 2)] * 5, (8, 8, 8, 2), (9,), (9,)])


def batch(size: int = 0, rank: int = 0, world_size: int = 1, compat: str = "exact") -> StepBatch:
    return step_batch(
        ROLLOUTS,
        PROMPTS,
        size=size,
        rank=rank,
        world_size=world_size,
        base=BASE,
        device=torch.device("cpu"),
        defects=defects_of(tiny_spec(objective={"compat": compat}).objective),
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
    step = batch(compat="padded_lengths")
    # The 3-token prompt stands at indices 2..4 of 5; index 3 on counts, so its tokens 1 and 2 leak in.
    assert counted(step)[0] == ([5, 5, 7, 2], 5)
    assert counted(step)[2] == ([9], 2)
