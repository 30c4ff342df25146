import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.sharing.schedules import multiplier, multipliers
from sweeps.spec import SCHEDULES, ScheduleSpec, SpecError


def schedule(name, **changes):
    return ScheduleSpec(name=name, **changes)


@given(name=st.sampled_from(SCHEDULES), num=st.integers(1, 40), warmup=st.integers(0, 45))
def test_every_step_of_every_schedule_has_a_rate_above_zero_and_at_most_the_peak(name, num, warmup):
    values = multipliers(schedule(name, warmup_steps=warmup), num)
    assert len(values) == num
    assert all(0 < v <= 1 for v in values)


@given(name=st.sampled_from(SCHEDULES), num=st.integers(2, 40), warmup=st.integers(0, 5))
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
@pytest.mark.parametrize("name", [*SCHEDULES, "wsd sqrt"])
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
