from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainers.step.masks import predicting_mask

ROWS = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 5)), min_size=1, max_size=5)


@given(rows=ROWS, extra=st.integers(0, 3), padding=st.sampled_from(["right", "left"]))
def test_masked_positions_predict_exactly_the_completion_tokens(rows, extra, padding):
    """Brute force: lay the tokens out one by one and ask of each position what the next one holds."""
    width = max(p + c for p, c in rows) + extra
    mask = predicting_mask(
        [range(p, p + c) for p, c in rows], [p + c for p, c in rows], width, padding=padding
    )
    for row, (prompt, completion) in enumerate(rows):
        kinds = ["prompt"] * prompt + ["completion"] * completion
        pads = ["pad"] * (width - len(kinds))
        kinds = kinds + pads if padding == "right" else pads + kinds
        following = [*kinds[1:], "nothing"]
        assert mask[row].tolist() == [kind == "completion" for kind in following]


def test_eos_counts_even_where_it_is_the_padding_token():
    # Token ids never enter: a completion of two tokens, the last of them EOS, has two predicting positions.
    mask = predicting_mask([range(3, 5)], [5], 8)
    assert mask.int().tolist() == [[0, 0, 1, 1, 0, 0, 0, 0]]


def test_unshifted_offset_marks_the_tokens_themselves():
    assert predicting_mask([range(3, 5)], [5], 6, offset=0).int().tolist() == [[0, 0, 0, 1, 1, 0]]


@pytest.mark.parametrize(
    ("lengths", "padding", "message"), [([9], "right", "9 tokens"), ([3], "top", "right or left")]
)
def test_a_row_that_does_not_fit_or_an_unknown_side_is_refused(lengths, padding, message):
    with pytest.raises(ValueError, match=message):
        predicting_mask([range(1, 2)], lengths, 8, padding=padding)


def test_mask_is_boolean_and_empty_for_an_empty_completion():
    mask = predicting_mask([range(4, 4)], [4], 4)
    assert mask.dtype == torch.bool
    assert not mask.any()
