"""What comes into an actor by several threads is worked off in one order on every rank."""

from __future__ import annotations

import itertools

import pytest

from orchestrator.pools.ray_worker import InOrder


@pytest.mark.parametrize("arrival", itertools.permutations(range(4)))
def test_batches_are_passed_on_by_number_however_they_arrive(arrival):
    passed = []
    order = InOrder(passed.append)
    for number in arrival:
        order.take(number, [f"batch {number}"])
    assert passed == [[f"batch {number}"] for number in range(4)]
