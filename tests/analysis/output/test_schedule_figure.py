import pytest

from sweeps.cost.schedule_curves import Curve


def test_every_curve_has_a_panel_of_its_own():
    pytest.importorskip("altair", reason="figures need the extra `figures`")
    from analysis.output.schedule_figure import schedule_figure

    curves = [Curve(label=n, steps=3, multipliers=(1.0, 0.5, 0.2)) for n in ("wsd", "rex", "power", "linear")]
    svg = schedule_figure(curves).svg()
    assert all(f"{c.label}, 3 steps" in svg for c in curves)
