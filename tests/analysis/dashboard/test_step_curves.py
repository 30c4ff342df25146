"""Curves show the groups that are best by what is drawn."""

from __future__ import annotations

import json

from analysis import open_sweep
from analysis.dashboard.step_curves import draw_curves
from tests.analysis.synthetic import quickstart_world, write_sweep

RATES = tuple(k * 1e-5 for k in range(1, 10))


def test_where_the_metric_has_no_curve_the_groups_of_lowest_loss_are_drawn(tmp_path):
    world = quickstart_world(axes={"model": ("tiny-64",), "optim.lr": RATES, "seed": (0, 1)}, num_items=8)
    drawing, table = draw_curves(open_sweep(write_sweep(tmp_path / "s", world)), "optim.lr", "gain_sampled")
    ends = table.frame.query("metric == 'loss'").groupby("optim.lr")["value"].last()
    data = json.loads(drawing.spec)["datasets"]
    drawn = {float(row["optim_lr"]) for rows in data.values() for row in rows if "loss" in row}
    assert drawn == {float(f"{rate:.0e}") for rate in ends.sort_values().index[:7]}
    assert "best 7 of 9" in drawing.caption
