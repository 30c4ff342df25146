"""Verdicts of different items are never lined up with each other."""

from __future__ import annotations

import pyarrow as pa
import pytest

from analysis.tables.verdicts import _matrix
from sweeps.spec.errors import UserError


def test_lists_of_one_length_are_a_matrix():
    column = pa.chunked_array([[[1, 0], [0, 1]], [[1, 1]]])
    assert _matrix(column, "accuracy_sampled").tolist() == [[1, 0], [0, 1], [1, 1]]


@pytest.mark.parametrize("lists", [[[1] * 10, [1] * 30], [[1] * 2, [1] * 3], [[], [1, 1]]])
def test_lists_of_several_lengths_are_refused_even_where_their_sum_would_divide(lists):
    with pytest.raises(UserError, match="judged on different items"):
        _matrix(pa.chunked_array([lists]), "accuracy_sampled")
