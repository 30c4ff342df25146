import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.schedules import multiplier, multipliers
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
