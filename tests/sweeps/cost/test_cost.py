import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.cost.cost import START_HIGH_S, START_LOW_S, START_S, Part, check_budget, price
from sweeps.cost.throughput import (
    GUESS_FACTOR,
    LABEL_KEYS,
    LINEAR_KEYS,
    Observation,
    Rates,
    calibrate,
    guess,
    speed_key,
)
from sweeps.cost.work_count import SweepWork, Work
from sweeps.spec import RunSpec, SpecError


def work(num_runs, steps=10, shared_steps=None):
    total = num_runs * steps
    naive = Work(
        steps=total, rollout_batches=total, gradients=total, eval_passes=2 * num_runs, base_eval_passes=2
    )
    shared = total if shared_steps is None else shared_steps
    less = Work(
        steps=shared, rollout_batches=shared, gradients=shared, eval_passes=2 * num_runs, base_eval_passes=2
    )
    return SweepWork(naive=naive, shared=less)


def part(num_runs, rates, **changes):
    values = {
        "model": "m",
        "num_runs": num_runs,
        "work": work(num_runs),
        "rates": rates,
        "world_size": 1,
        "gpus": 0.0,
        "num_slots": 1,
        "num_items": 500.0,
        "checkpoint_bytes": 0,
        "num_verdicts": 2000 * num_runs,
    }
    return Part(**values | changes)


def observed(wall_s, steps=10):
    times = {"rollout_s": 0.3 * wall_s, "train_s": 0.4 * wall_s, "eval_s": 0.2 * wall_s}
    return Observation(steps=steps, draws=steps, judged=1000, wall_s=wall_s, **times)


@given(wall=st.floats(0.01, 100), num=st.integers(1, 50), steps=st.integers(1, 20))
def test_rates_from_equal_runs_price_one_more_such_run_at_what_it_took(wall, num, steps):
    rates = calibrate([observed(wall, steps)] * num)
    one = Work(steps=steps, rollout_batches=steps, gradients=steps, eval_passes=2, base_eval_passes=0)
    estimate = price(
        [part(1, rates, work=SweepWork(naive=one, shared=one))], sharing=False, usd_per_gpu_hour=None
    )
    assert estimate.busy_s == pytest.approx(wall)
    assert rates.spread == pytest.approx(0, abs=1e-9)


def test_the_first_runs_that_load_the_model_do_not_set_the_rate():
    rates = calibrate([observed(30.0), *[observed(0.2)] * 20])
    assert rates.rollout_s == pytest.approx(0.3 * 0.2 / 10)


def test_the_interval_narrows_with_measured_runs_and_holds_the_estimate():
    few = calibrate([observed(w) for w in (0.1, 0.2, 0.3)])
    many = calibrate([observed(w) for w in (0.1, 0.2, 0.3)] * 100)
    widths = []
    for rates in (guess(94_000, 64, 16, 12), few, many):
        estimate = price([part(100, rates)], sharing=False, usd_per_gpu_hour=None)
        assert estimate.eta_low_s < estimate.eta_s < estimate.eta_high_s
        widths.append((estimate.eta_high_s - START_HIGH_S) / (estimate.eta_low_s - START_LOW_S))
    assert widths[0] == pytest.approx(GUESS_FACTOR**2)
    assert widths[0] > widths[1] > widths[2]


def test_sharing_lowers_the_price_by_the_work_it_saves():
    rates = Rates(run_s=0.0, rollout_s=0.1, train_s=0.2, judged_s=0.0)
    shared = part(10, rates, work=work(10, shared_steps=20))
    alone, together = (price([shared], sharing=s, usd_per_gpu_hour=None) for s in (False, True))
    assert alone.busy_s == pytest.approx(100 * 0.3)
    assert together.busy_s == pytest.approx(20 * 0.3)
    assert together.naive_busy_s == alone.busy_s


def test_gangs_and_slots_and_money():
    rates = Rates(run_s=3600.0, rollout_s=0.0, train_s=0.0, judged_s=0.0)
    estimate = price(
        [part(8, rates, world_size=2, gpus=2.0, num_slots=4)], sharing=True, usd_per_gpu_hour=3.0
    )
    assert estimate.gpu_hours == pytest.approx(16)
    assert estimate.usd == pytest.approx(48)
    assert estimate.eta_s == pytest.approx(START_S + 2 * 3600)
    assert estimate.busy_s == pytest.approx(16 * 3600)


def test_nothing_to_do_costs_nothing():
    estimate = price([], sharing=True, usd_per_gpu_hour=1.0)
    assert (estimate.eta_s, estimate.busy_s, estimate.usd, estimate.disk_bytes) == (0, 0, 0, 0)


def test_checkpoints_are_part_of_the_disk():
    rates = guess(94_000, 64, 16, 12)
    without, with_them = (
        price([part(10, rates, checkpoint_bytes=b)], sharing=True, usd_per_gpu_hour=None) for b in (0, 10**9)
    )
    assert with_them.disk_bytes - without.disk_bytes == 10**9


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"gpu_hours": 1}, r"budget.gpu_hours=1: the sweep would take about 16; drop runs or raise"),
        ({"usd": 10}, r"budget.usd=10: the sweep would take about 48"),
        ({"disk_gib": 0.00001}, "budget.disk_gib"),
    ],
)
def test_a_budget_refuses_what_costs_more(budget, message):
    rates = Rates(run_s=3600.0, rollout_s=0.0, train_s=0.0, judged_s=0.0)
    estimate = price([part(8, rates, world_size=2, gpus=2.0)], sharing=True, usd_per_gpu_hour=3.0)
    with pytest.raises(SpecError, match=message):
        check_budget(estimate, budget)
    check_budget(estimate, dict.fromkeys(budget, 1e9))
    check_budget(estimate, dict.fromkeys(budget))


def test_a_money_limit_without_a_price_is_refused():
    estimate = price([part(1, guess(94_000, 64, 16, 12))], sharing=True, usd_per_gpu_hour=None)
    with pytest.raises(SpecError, match=r"set cluster\.usd_per_gpu_hour"):
        check_budget(estimate, {"usd": 5})


def test_rates_need_a_run_and_a_larger_model_is_guessed_slower():
    with pytest.raises(ValueError, match="at least one finished run"):
        calibrate([])
    sizes = [94_000, 210_000, 1_500_000_000, 7_000_000_000]
    guesses = [guess(size, 64, 512, 3072).train_s for size in sizes]
    assert guesses == sorted(guesses)


def test_seconds_of_an_evaluation_follow_its_items():
    rates = calibrate([observed(10.0)])
    few, many = (
        price([part(1, rates, num_items=n)], sharing=True, usd_per_gpu_hour=None) for n in (100, 500)
    )
    passes = work(1).shared.eval_passes + work(1).shared.base_eval_passes
    assert many.busy_s - few.busy_s == pytest.approx(400 * passes * 2.0 / 1000)


def test_a_long_evaluation_is_guessed_longer_and_a_model_of_several_parts_is_as_sure_as_its_least():
    assert guess(94_000, 64, 16, 3072).judged_s > 50 * guess(94_000, 64, 16, 12).judged_s
    sure, unsure = part(1, calibrate([observed(1.0)] * 3)), part(1, guess(94_000, 64, 16, 12))
    assert price([sure, unsure], sharing=True, usd_per_gpu_hour=None).measured == {"m": 0}


def changed(**changes):
    spec = RunSpec()
    for key, value in changes.items():
        group, name = key.split("__")
        spec = dataclasses.replace(
            spec, **{group: dataclasses.replace(getattr(spec, group), **{name: value})}
        )
    return spec


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model__digest", "other"),
        ("eval__digest", "other"),
        ("eval__max_new_tokens", 12),
        ("eval__temperatures", (0.5,)),
        ("engine__micro_batch", 8),
        ("resources__world_size", 2),
        ("sampling__num_rollouts", 8),
        ("trainer__target", "mine.Own"),
    ],
)
def test_runs_under_other_settings_do_not_tell_how_long_a_run_takes(key, value):
    assert speed_key(changed(**{key: value})) != speed_key(RunSpec())


def test_what_seconds_are_linear_in_and_what_they_do_not_depend_on_is_left_out():
    values = {"steps": (0,), "limit": 7, "num_samples": 9, "name": "x", "path": "y", "timeout_s": 1.0}
    assert set(values) == {*LINEAR_KEYS, *LABEL_KEYS}
    for name, value in values.items():
        assert speed_key(changed(**{f"eval__{name}": value})) == speed_key(RunSpec())
    for key, value in {"optim__lr": 1.0, "resources__timeout_s": 9.0, "model__name": "x"}.items():
        assert speed_key(changed(**{key: value})) == speed_key(RunSpec())
