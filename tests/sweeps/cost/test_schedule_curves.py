from sweeps.compose import compose_sweep
from sweeps.cost.schedule_curves import MAX_WIDTH, curves_of, curves_text, sparkline
from sweeps.manifest.build import build_manifest


def curves(*words):
    return curves_of(build_manifest(compose_sweep(list(words))))


def test_each_schedule_and_horizon_is_drawn_once_whatever_else_varies():
    drawn = curves("schedule=constant,wsd", "steps=4,8", "seed=range(3)", "optim.lr=1e-4,2e-4")
    assert {(c.label, c.steps) for c in drawn} == {(n, s) for n in ("constant", "wsd") for s in (4, 8)}
    assert all(len(c.multipliers) == c.steps for c in drawn)


def test_a_label_names_what_differs_from_the_default():
    [drawn] = curves("schedule=wsd", "schedule.decay_fraction=0.5", "schedule.decay_shape=sqrt")
    assert drawn.label == "wsd decay_fraction=0.5 decay_shape=sqrt"


def test_a_sparkline_is_as_high_as_its_values_and_never_wider_than_a_terminal():
    assert sparkline([0.0, 0.5, 0.99, 1.0]) == "▁▅██"
    assert len(sparkline([1.0] * 1000)) <= MAX_WIDTH


def test_the_text_has_a_line_per_curve():
    text = curves_text(curves("schedule=linear,cosine", "steps=10"))
    assert [line.split()[0] for line in text.splitlines()] == ["linear", "cosine"]
    assert "██▇▆▅▅▄▃▂▁" in text


def test_rates_that_a_run_finds_are_not_drawn():
    drawn = curves("schedule=linear,autolrs", "steps=100")
    assert {c.label: len(c.multipliers) for c in drawn} == {"linear": 100, "autolrs": 0}
    assert "autolrs    100 steps  found as a run goes" in curves_text(drawn)
