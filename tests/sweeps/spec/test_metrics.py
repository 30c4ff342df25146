from __future__ import annotations

import pytest

from sweeps.compose import compose_sweep
from sweeps.manifest.build import build_manifest
from sweeps.spec import SpecError
from sweeps.spec.metrics import change_of, metric_info


def test_direction_unit_and_range_are_read():
    rmse = metric_info("rmse", {"direction": "min", "unit": "m", "range": [0, 10]})
    assert (rmse.direction, rmse.unit, rmse.range, rmse.sign) == ("min", "m", (0.0, 10.0), -1)
    assert metric_info("score", {"range": [0, None]}).range == (0.0, None)
    assert metric_info("share", {"unit": "share"}).range == (0.0, 1.0)


def test_nothing_said_is_a_plain_number_without_a_better_end():
    plain = metric_info("accuracy", {})
    assert (plain.direction, plain.is_share, plain.title("accuracy")) == ("none", False, "accuracy")


def test_a_difference_of_shares_is_in_points():
    share = metric_info("score", {"unit": "share", "words": "pass rate"})
    assert share.title("score") == "pass rate (%)"
    assert change_of(share).title("score") == "pass rate (points)"
    assert change_of(share).range == (-1.0, 1.0)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("min", r"trainer\.metrics\.rmse='min': must be a mapping"),
        ({"direction": "down"}, r"trainer\.metrics\.rmse\.direction='down': choose one of max, min, none"),
        ({"directoin": "min"}, r'directoin: unknown key \(did you mean "direction"'),
        ({"unit": 1}, r"trainer\.metrics\.rmse\.unit=1: must be text"),
        ({"range": [10, 0]}, r"range=\[10, 0\]: must be the least and the largest value"),
        ({"range": 10}, "must be the least and the largest value"),
    ],
)
def test_anything_else_is_refused_by_key_value_and_rule(written, message):
    with pytest.raises(SpecError, match=message):
        metric_info("rmse", written)


def test_what_a_metric_is_stays_outside_the_identity_of_runs(tmp_path):
    def manifest(metrics: str):
        (tmp_path / "mine.yaml").write_text(
            "# @package _global_\n"
            f"trainer: {{_target_: mine.Trainer, params: {{a: 1}}{metrics}}}\n"
            "sweep: {axes: {seed: range(2)}}\n"
        )
        return build_manifest(compose_sweep([f"sweep={tmp_path / 'mine.yaml'}"]))

    said = manifest(", metrics: {rmse: {direction: min, unit: m, range: [0, 10]}}")
    assert said.run_ids == manifest("").run_ids
    assert said.digest != manifest("").digest  # so that a launch in the same directory writes it down
    assert said.group("trainer", 0).metrics == {"rmse": {"direction": "min", "unit": "m", "range": [0, 10]}}


def test_a_bad_word_about_a_metric_is_refused_when_the_sweep_is_read(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "# @package _global_\n"
        "trainer: {_target_: mine.Trainer, metrics: {rmse: {direction: smaller}}}\n"
        "sweep: {axes: {seed: range(2)}}\n"
    )
    with pytest.raises(SpecError, match=r"trainer\.metrics\.rmse\.direction='smaller'"):
        build_manifest(compose_sweep([f"sweep={tmp_path / 'mine.yaml'}"]))


@pytest.mark.parametrize(
    "node",
    [
        "axes: {trainer.metrics.rmse.direction: [min, max]}",
        "axes: {seed: [0]}\nconcat: [{axes: {trainer.metrics.rmse.direction: [min]}}]",
        "axes: {seed: [0, 1]}\nset: [{when: seed=1, trainer.metrics.rmse.direction: max}]",
    ],
)
def test_what_a_metric_is_cannot_differ_between_the_runs_of_a_sweep(sweep_file, node):
    path = sweep_file(node, top="trainer: {_target_: mine.Trainer}\n")
    with pytest.raises(SpecError, match=r"metrics\.rmse\.direction: cannot be an axis.*one value") as caught:
        compose_sweep([f"sweep={path}"])
    assert "\n" not in str(caught.value)


def test_what_a_metric_is_takes_one_value_on_the_command_line(sweep_file):
    path = sweep_file("axes: {seed: [0, 1]}", top="trainer: {_target_: mine.Trainer}\n")
    words = [f"sweep={path}"]
    manifest = build_manifest(compose_sweep([*words, "trainer.metrics.rmse.direction=min"]))
    assert manifest.group("trainer", 1).metrics == {"rmse": {"direction": "min"}}
    for several in ("trainer.metrics.rmse.direction=min,max", "trainer.metrics={},{rmse:{direction:max}}"):
        with pytest.raises(SpecError, match="cannot be an axis"):
            compose_sweep([*words, several])
