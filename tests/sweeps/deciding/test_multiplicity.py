"""What joins is the largest set of claims that a closed test over all sets of nulls allows."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.deciding.multiplicity import join_fdr, join_fwer

ALPHA = 0.2


def allowed_fdr(claimed: list[float], num_nulls: int) -> bool:
    """Whether, for each set of nulls, the share it has of the claims is at most α times its mean evidence."""
    evidence = [*claimed, *[0.0] * (num_nulls - len(claimed))]
    return all(
        ALPHA * sum(evidence[i] for i in chosen) / size
        >= sum(i < len(claimed) for i in chosen) / len(claimed) - 1e-12
        for size in range(1, num_nulls + 1)
        for chosen in combinations(range(num_nulls), size)
    )


def allowed_fwer(claimed: list[float], num_nulls: int) -> bool:
    """Whether each set of nulls that holds a claimed one has mean evidence of at least 1/α."""
    evidence = [*claimed, *[0.0] * (num_nulls - len(claimed))]
    return all(
        sum(evidence[i] for i in chosen) / size >= 1 / ALPHA - 1e-9
        for size in range(1, num_nulls + 1)
        for chosen in combinations(range(num_nulls), size)
        if any(i < len(claimed) for i in chosen)
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(1, 90), min_size=1, max_size=4), st.integers(0, 4))
def test_the_largest_set_that_the_closed_test_allows_joins(values, others):
    ordered, num_nulls = sorted(values, reverse=True), len(values) + others
    for join, allowed in ((join_fdr, allowed_fdr), (join_fwer, allowed_fwer)):
        sizes = [r for r in range(1, len(values) + 1) if allowed(ordered[:r], num_nulls)]
        assert join(np.zeros(0), np.log(ordered), num_nulls, ALPHA) == max(sizes, default=0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 9), min_size=1, max_size=30))
def test_no_claim_of_e_bh_is_missed(log_e):
    ordered = np.sort(log_e)[::-1]
    ranks, num_nulls = np.arange(1, len(ordered) + 1), 2 * len(ordered)
    e_bh = np.flatnonzero(ordered >= np.log(num_nulls / (ALPHA * ranks)) + 1e-9)
    assert join_fdr(np.zeros(0), ordered, num_nulls, ALPHA) >= (e_bh[-1] + 1 if len(e_bh) else 0)


@pytest.mark.parametrize("join", [join_fdr, join_fwer])
def test_claims_made_before_make_others_easier_and_never_harder(join):
    open_ = np.log([30.0, 25.0, 22.0])
    alone = join(np.zeros(0), open_, 8, 0.2)
    assert join(np.log([50.0, 45.0]), open_, 8, 0.2) >= alone
    assert join(np.full(5, 9000.0), open_, 8, 0.2) == 3
    assert join(np.zeros(0), np.zeros(0), 8, 0.2) == 0
