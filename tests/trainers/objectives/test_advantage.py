from __future__ import annotations

import itertools
import statistics

import numpy as np
import pytest
import torch

from trainers.objectives.advantage import STD_EPSILON, advantages, credit, uniform_groups

REWARDS = np.array([1.0, 0, 0, 2, 1, 1, 1, 1])


def by_hand(kind: str) -> list[float]:
    values: list[float] = []
    spread_of_all = statistics.stdev(REWARDS.tolist())
    for group in (REWARDS[:4].tolist(), REWARDS[4:].tolist()):
        for k, r in enumerate(group):
            others = group[:k] + group[k + 1 :]
            values.append(
                {
                    "raw": r,
                    "center": r - statistics.mean(group),
                    "loo": r - statistics.mean(others),
                    "group": (r - statistics.mean(group)) / (statistics.stdev(group) + STD_EPSILON),
                    "batch": (r - statistics.mean(group)) / (spread_of_all + STD_EPSILON),
                }[kind]
            )
    return values


@pytest.mark.parametrize("kind", ["raw", "center", "loo", "group", "batch"])
def test_advantages_are_those_worked_out_rollout_by_rollout(kind):
    assert advantages(REWARDS, 4, kind) == pytest.approx(by_hand(kind), abs=1e-12)


@pytest.mark.parametrize("kind", ["center", "group", "batch", "loo"])
def test_a_group_whose_rewards_are_all_equal_is_worth_nothing(kind):
    assert advantages(np.full(6, 0.1 + 0.2), 3, kind) == pytest.approx(0, abs=1e-15)


def test_a_single_rollout_keeps_its_reward_and_has_no_spread():
    assert advantages(np.array([3.0]), 1, "raw").tolist() == [3.0]
    assert advantages(np.array([3.0]), 1, "batch").tolist() == [0.0]


def test_groups_that_tell_nothing_are_found():
    assert uniform_groups(REWARDS, 4).tolist() == [False, True]


def test_credit_sums_gains_and_costs_of_copies_in_whatever_groups():
    values = credit(np.array([1.0, -2, 3, -4, 5]), np.array([0, 0, 1, 1, 0]), positive_only=False)
    assert (values.gain_D.tolist(), values.cost_D.tolist()) == ([6.0, 3.0], [-2.0, -4.0])
    only = credit(np.array([1.0, -2, 3, -4, 5]), np.array([0, 0, 1, 1, 0]), positive_only=True)
    assert (only.gain_D.tolist(), only.cost_D.tolist()) == ([6.0, 3.0], [0.0, 0.0])


@pytest.mark.parametrize(("kind", "unbiased"), [("loo", True), ("raw", True), ("center", False)])
def test_the_leave_one_out_baseline_leaves_the_expected_gradient_as_it_is(kind, unbiased):
    """E[Σ A ∇log π]/G over all pairs of three tokens against ∇E[r]; the mean shrinks it by 1 − 1/G."""
    z = torch.tensor([0.3, -0.5, 1.1], dtype=torch.float64, requires_grad=True)
    reward = torch.tensor([1.0, 0.0, 4.0], dtype=torch.float64)
    (exact,) = torch.autograd.grad((torch.softmax(z, 0) * reward).sum(), z)
    p = torch.softmax(z, 0).detach()
    expected = torch.zeros(3, dtype=torch.float64)
    for pair in itertools.product(range(3), repeat=2):
        worth = torch.tensor(advantages(reward[list(pair)].numpy(), 2, kind))
        score = torch.nn.functional.one_hot(torch.tensor(pair), 3) - p
        expected += p[list(pair)].prod() * (worth[:, None] * score).mean(0)
    torch.testing.assert_close(expected, exact if unbiased else exact / 2)


def test_a_right_answer_is_worth_the_rate_of_wrong_ones_and_a_group_of_one_kind_nothing():
    """NFT (arXiv 2505.18116): 1 − q and −q; of 100 rollouts one right counts as a rate of 0.02."""
    rewards = np.array([1, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0], dtype=float)
    assert advantages(rewards, 4, "rate").tolist() == [0.75, -0.25, -0.25, -0.25] + [0.0] * 8
    rare = np.zeros(100)
    rare[7] = 1
    assert advantages(rare, 100, "rate")[7] == pytest.approx(0.98)
    assert advantages(rare, 100, "rate")[8] == pytest.approx(-0.02)
