import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import median_filter

from sweeps.sharing.schedules import ProbedRate, multiplier, multipliers, rates, refined, running_median
from sweeps.spec import SCHEDULES, ScheduleSpec, SpecError

FALLING = tuple(name for name in SCHEDULES if name not in ("onecycle", "refined", "autolrs"))
"""Schedules that need no norms, are known before a run, and rise in their warmup only."""


def schedule(name, **changes):
    return ScheduleSpec(name=name, **changes)


@given(name=st.sampled_from(FALLING), num=st.integers(1, 40), warmup=st.integers(0, 45))
def test_every_step_of_every_schedule_has_a_rate_above_zero_and_at_most_the_peak(name, num, warmup):
    values = multipliers(schedule(name, warmup_steps=warmup), num)
    assert len(values) == num
    assert all(0 < v <= 1 for v in values)


@given(name=st.sampled_from(FALLING), num=st.integers(2, 40), warmup=st.integers(0, 5))
def test_warmup_rises_and_the_rest_never_does(name, num, warmup):
    values = multipliers(schedule(name, warmup_steps=warmup), num)
    head, tail = values[:warmup], values[warmup:]
    assert list(head) == [(s + 1) / warmup for s in range(len(head))]
    assert all(a >= b for a, b in itertools.pairwise(tail))


def test_values_worked_out_by_hand():
    assert multipliers(schedule("constant"), 3) == (1, 1, 1)
    assert multipliers(schedule("linear"), 4) == (1, 0.75, 0.5, 0.25)
    assert multipliers(schedule("linear", warmup_steps=2), 4) == (0.5, 1.0, 1.0, 0.5)
    assert multiplier(schedule("cosine"), 5, 10) == pytest.approx(0.5)
    assert multiplier(schedule("cosine", min_ratio=0.1), 5, 10) == pytest.approx(0.55)
    assert multiplier(schedule("rex"), 5, 10) == pytest.approx(0.5 / 0.75)
    assert multiplier(schedule("inverse_sqrt", warmup_steps=4), 16, 100) == pytest.approx(math.sqrt(4 / 16))
    assert multiplier(schedule("inverse_sqrt"), 10_000, 20_000) == pytest.approx(math.sqrt(0.5))


def closed_form(name, s, num, warmup):
    """The published formulas, written down once more; see the docstrings for where they come from."""
    if s < warmup:
        return (s + 1) / warmup
    u = (s - warmup) / (num - warmup)
    num_decay = min(max(1, round(0.2 * num)), num - warmup)
    j = s - (num - num_decay)  # 0 at the first decay step
    num_cooldown = min(round(0.3 * num), num - warmup - num_decay)
    k = s - warmup
    if name == "infinite" and k < num_cooldown:
        return 0.5 + 0.25 * (1 + math.cos(math.pi * k / num_cooldown))
    return {
        "constant": 1.0,
        "linear": (num - s) / (num - warmup),
        "cosine": 0.5 * (1 + math.cos(math.pi * u)),
        "inverse_sqrt": math.sqrt((warmup or 10_000) / (s if warmup else s + 10_000)),
        "wsd": 1.0 if j < 0 else 1 - (j + 1) / (num_decay + 1),
        "wsd sqrt": 1.0 if j < 0 else 1 - math.sqrt((j + 1) / (num_decay + 1)),
        "rex": (1 - u) / (1 - u / 2),
        "power": 1.0 if s == 0 else min(1.0, math.exp(-0.51 * math.log(s))),
        "infinite": 0.5 if j < 0 else 0.5 * 0.2 ** ((j + 1) / num_decay),
    }[name]


@pytest.mark.parametrize("warmup", [0, 1, 3, 100])
@pytest.mark.parametrize("num", [1, 2, 10, 1000])
@pytest.mark.parametrize("name", [*FALLING, "wsd sqrt"])
def test_every_step_is_that_of_the_closed_form(name, num, warmup):
    kind, _, shape = name.partition(" ")
    scheduled = multipliers(schedule(kind, warmup_steps=warmup, decay_shape=shape or "linear"), num)
    assert scheduled == pytest.approx([closed_form(name, s, num, warmup) for s in range(num)], abs=1e-12)


def test_power_is_the_papers_rate_over_the_peak():
    a, lr, b, tokens_per_step = 4.6, 0.02, -0.51, 512
    timescale = (a / lr) ** (-1 / b) / tokens_per_step
    scheduled = schedule("power", power_exponent=b, power_timescale=timescale)
    for s in (1, 10, 1000, 100_000):
        expected = min(1, a / lr * (s * tokens_per_step) ** b)
        assert multiplier(scheduled, s, 1_000_000) == pytest.approx(expected)


def test_infinite_holds_between_cooling_and_annealing_and_ends_at_its_final_ratio():
    values = multipliers(schedule("infinite", hold_ratio=0.4, final_ratio=0.04), 10)
    assert values[0] == 1
    assert values[3:8] == (0.4,) * 5
    assert values[8:] == (pytest.approx(0.4 * 0.1**0.5), pytest.approx(0.04))


@pytest.mark.parametrize(
    "changes",
    [
        {"power_exponent": 0.5},
        {"power_timescale": 0.0},
        {"hold_ratio": 0.0},
        {"final_ratio": 2.0},
        {"cooldown_fraction": -0.1},
    ],
)
def test_a_parameter_out_of_range_is_refused_with_its_rule(changes):
    [key] = changes
    with pytest.raises(SpecError, match=f"schedule.{key}=.*must be"):
        schedule("constant", **changes)


def test_the_single_decay_step_of_a_ten_step_run_does_decay():
    assert multipliers(schedule("wsd", decay_fraction=0.1), 10) == (*[1.0] * 9, 0.5)
    assert multipliers(schedule("wsd", decay_fraction=0.2), 10)[-2:] == (
        pytest.approx(2 / 3),
        pytest.approx(1 / 3),
    )
    assert multiplier(schedule("wsd", decay_fraction=0.1, decay_shape="sqrt"), 9, 10) == 1 - math.sqrt(0.5)


def test_an_unknown_schedule_names_the_nearest():
    with pytest.raises(SpecError, match='did you mean "cosine"'):
        schedule("cosin")


def test_parameters_added_later_leave_old_identities_alone():
    from sweeps.spec import group_canonical

    assert group_canonical("schedule", schedule("constant")) == '{"name":"constant","warmup_steps":0}'


@pytest.mark.parametrize("num", [4, 10, 11, 50, 1000])
def test_onecycle_is_that_of_torch(num):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    of_torch = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=num, cycle_momentum=False
    )
    rates = []
    for _ in range(num):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(rates) < num:
            of_torch.step()
    assert multipliers(schedule("onecycle"), num) == pytest.approx(rates, abs=1e-9)


@given(num=st.integers(1, 40), warmup=st.integers(0, 45))
def test_onecycle_has_a_rate_above_zero_at_every_step_whatever_the_horizon(num, warmup):
    assert all(0 < v <= 1 for v in multipliers(schedule("onecycle", warmup_steps=warmup), num))


NORMS = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=80)


@given(norms=NORMS, power=st.sampled_from([1, 2]))
def test_refined_is_the_papers_sum_over_a_median_one_step_later(norms, power):
    num = len(norms)
    width = 2 * (int(0.1 * num) // 2) + 1
    padded = np.pad(np.array(norms), (0, 2 * width), mode="reflect") if num > 1 else np.array(norms)
    smooth = median_filter(padded, size=width, mode="nearest")[:num]
    assert running_median(norms) == pytest.approx(smooth.tolist())
    w = smooth ** -float(power)
    eta = np.array([w[t] * w[t:].sum() for t in range(num)])
    scheduled = schedule("refined", norms=tuple(norms), norms_power=power)
    assert multipliers(scheduled, num) == pytest.approx((eta / eta.max()).tolist())
    assert all(0 < v <= 1 for v in refined(tuple(norms), power))


def test_equal_norms_refine_nothing_and_warmup_comes_first():
    assert multipliers(schedule("refined", norms=(0.3,) * 10), 10) == pytest.approx(
        multipliers(schedule("linear"), 10)
    )
    warm = schedule("refined", norms=(9.0, 0.3, 0.3, 0.3), warmup_steps=1)
    assert multipliers(warm, 4) == pytest.approx(multipliers(schedule("linear", warmup_steps=1), 4))


def test_where_gradients_fall_the_rate_rises_before_it_decays():
    values = multipliers(schedule("refined", norms=(8.0, 4.0, 1.0, 1.0, 1.0)), 5)
    assert values[0] < values[1] < values[2] == 1 > values[3] > values[4]


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("refined", {}, "needs the gradient norms of a first run.*schedule.norms_path"),
        ("linear", {"norms_path": "a.csv"}, "schedule.norms_path='a.csv': schedule=linear reads no norms"),
        ("refined", {"norms": (1.0, 0.0)}, "schedule.norms, step 2=0.0: must be a number above 0"),
        ("refined", {"norms": (1.0,), "norms_power": 3}, "schedule.norms_power=3: must be 1 or 2"),
    ],
)
def test_norms_that_lack_or_that_nothing_reads_are_refused(name, changes, message):
    with pytest.raises(SpecError, match=message):
        schedule(name, **changes)


def test_rates_are_tried_before_every_stretch_and_what_is_left_over_goes_on_at_the_last_one():
    found = rates(schedule("autolrs", probe_every_steps=80, probe_lowest_ratio=0.1), 2e-4, 200)
    first, second = (ProbedRate(2e-4, 0.1, 80, 8, number) for number in (0, 1))
    assert found == (first,) * 80 + (second,) * 120
    assert [s for s, rate in enumerate(found) if rate.is_due(s)] == [0, 80]


@given(
    name=st.sampled_from(FALLING),
    num=st.integers(1, 20),
    lr=st.floats(1e-6, 1.0),
)
def test_rates_that_are_known_are_the_peak_times_the_multipliers(name, num, lr):
    assert rates(schedule(name), lr, num) == tuple(lr * m for m in multipliers(schedule(name), num))


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (
            "linear",
            {"probe_every_steps": 200},
            "schedule.probe_every_steps=200: schedule=linear tries no rates",
        ),
        ("linear", {"probe_lowest_ratio": 0.1}, "schedule.probe_lowest_ratio=0.1: schedule=linear tries no"),
        ("autolrs", {"probe_every_steps": 79}, "schedule.probe_every_steps=79: must be at least 80"),
        ("autolrs", {"probe_lowest_ratio": 1.0}, r"schedule.probe_lowest_ratio=1.0: must lie in \(0, 1\)"),
        (
            "autolrs",
            {"warmup_steps": 2},
            "schedule.warmup_steps=2: schedule=autolrs tries rates from the first",
        ),
    ],
)
def test_keys_of_tried_rates_are_refused_where_nothing_reads_them_or_no_forecast_fits(name, changes, message):
    with pytest.raises(SpecError, match=message):
        schedule(name, **changes)
