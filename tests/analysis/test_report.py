from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from analysis import open_sweep
from analysis.report import build_report, write_report
from analysis.tables.costs import cost_table
from sweeps.spec.errors import UserError
from tests.analysis.grids import EXAMPLES, write_grid
from tests.analysis.synthetic import quickstart_world, write_sweep


class _Reader(HTMLParser):
    """Collects what could fetch something, the text, and tags left open."""

    VOID = ("meta", "br", "hr", "img", "link", "input")

    def __init__(self):
        super().__init__()
        self.fetches, self.words, self.open = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag in ("script", "link", "img", "iframe"):
            self.fetches.append(tag)
        self.fetches += [v for k, v in attrs if k in ("src", "href") and not (v or "").startswith("#")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def report(ragged):
    return build_report(open_sweep(ragged))


@pytest.fixture(scope="module")
def ragged(tmp_path_factory):
    world = quickstart_world(num_items=40, failed=0.05, diverged=0.05)
    return write_sweep(tmp_path_factory.mktemp("report") / "ragged", world)


def test_the_report_fetches_nothing_and_is_well_formed(report):
    reader = _Reader()
    reader.feed(report)
    assert reader.fetches == []
    assert reader.open == []
    assert not re.search(r"url\((?!#)", report)
    assert "@import" not in report


def test_the_report_holds_what_a_reviewer_asks_for(report, ragged):
    reader = _Reader()
    reader.feed(report)
    text = " ".join(reader.words)
    sweep = open_sweep(ragged)
    for heading in ("The grid", "Coverage and failures", "Results", "What matters", "Best cells", "Costs"):
        assert heading in text
    assert "raises accuracy" in text
    assert "winner's curse" in text
    assert f"{sweep.counts()['diverged']} (" in text
    assert "RuntimeError: planted" in text
    assert "Questions this sweep cannot answer" in text
    assert sweep.sources[0].header["digest"] in text
    assert "emsweep launch sweep=synthetic" in text
    assert "emsweep replay" in text


def test_every_figure_has_a_number_and_names_of_its_own(report):
    numbers = re.findall(r"Figure (\d+)\.", report)
    assert numbers == [str(k + 1) for k in range(len(numbers))]
    assert len(numbers) >= 5
    ids = re.findall(r'\bid="([^"]+)"', report)
    assert len(ids) == len(set(ids))


def test_text_from_the_sweep_cannot_break_the_page(tmp_path):
    axes = {"model": ("<script>alert(1)</script>", "b&c"), "optim.lr": (1e-4, 2e-4), "seed": (0, 1)}
    directory = write_sweep(tmp_path / "odd", quickstart_world(axes=axes, num_items=8))
    text = build_report(open_sweep(directory))
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_the_report_is_written_whole(ragged, tmp_path):
    path = write_report(open_sweep(ragged), tmp_path / "r.html")
    assert path.read_text().endswith("</body></html>\n")
    assert list(tmp_path.iterdir()) == [path]


def test_one_seed_and_one_cell_still_make_a_report(tmp_path):
    axes = {"model": ("tiny-64",), "optim.lr": (1e-4,), "seed": (0,)}
    directory = write_sweep(tmp_path / "one", quickstart_world(axes=axes, num_items=8))
    text = build_report(open_sweep(directory))
    assert "One seed" in text
    assert "importance needs an axis with two values" in text


def test_an_unknown_metric_is_refused_before_anything_is_written(ragged, tmp_path):
    with pytest.raises(UserError, match="did you mean"):
        write_report(open_sweep(ragged), tmp_path / "r.html", metric="acuracy_sampled")
    assert not list(tmp_path.iterdir())


def test_costs_are_sums_of_the_recorded_seconds(ragged):
    sweep = open_sweep(ragged)
    frame = cost_table(sweep).frame.set_index("model")
    runs = sweep.runs()
    assert frame.loc["all", "hours"] == pytest.approx(runs["wall_s"].sum() / 3600)
    assert frame.loc["tiny-64", "runs"] == (runs["wall_s"].notna() & (runs["model"] == "tiny-64")).sum()


def test_the_sweeps_own_question_is_printed(tmp_path):
    directory = write_sweep(tmp_path / "asked", quickstart_world(num_items=8))
    asked = json.loads((directory / "sweep.yaml").read_text()) | {"about": "does it help?"}
    (directory / "sweep.yaml").write_text(json.dumps(asked, indent=1))
    assert "<p>does it help?</p>" in build_report(open_sweep(directory))


def _schedules(tmp_path, name, value):
    return open_sweep(write_grid(tmp_path / name, EXAMPLES / f"{name}.yaml", value))


def test_the_report_of_the_readmes_schedules_reads_truthfully(tmp_path):
    def value(axes, rng):
        gain = 0.1 * (axes["schedule"] == "wsd") + rng.normal(0, 0.005)
        return {"accuracy_sampled": 0.6 + gain, "gain_sampled": gain}

    text = build_report(_schedules(tmp_path, "schedules", value))
    assert (
        "64 runs over 5 axes: 16 cells, a part of the 72 combinations of their values, and 4 seeds." in text
    )
    assert "decay_fraction exists only for some values of schedule." in text
    assert re.search(r"schedule=wsd minus schedule=constant: \+(9|10)\.\d points, 95 % CI", text)
    assert "nan" not in re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL).lower().replace("nanmin", "")


def test_the_report_warns_of_axes_that_are_confounded_and_compares_none_of_them(tmp_path):
    def value(axes, rng):
        gain = 0.01 * axes["steps"] + rng.normal(0, 0.005)
        return {"accuracy_sampled": 0.6 + gain, "gain_sampled": gain}

    text = build_report(_schedules(tmp_path, "ladder", value))
    assert text.index("steps and lr cannot be told apart") < text.index("The grid")
    assert "minus steps=" not in text
    assert "minus optim.lr=" not in text
    assert "model=tiny-96 minus model=tiny-64" in text


def test_an_axis_that_does_not_exist_for_the_first_runs_does_not_break_the_headline(tmp_path):
    """With the knob as the first axis that varies, its missing value is a group of its own."""
    file = tmp_path / "knob.yaml"
    file.write_text(
        "# @package _global_\n"
        "sweep:\n"
        "  axes:\n"
        "    schedule.decay_fraction: {values: [0.2, 0.5], when: schedule=wsd}\n"
        "    schedule: [constant, wsd]\n"
        "    seed: range(3)\n"
    )

    def value(axes, rng):
        gain = (0.3 if axes["schedule"] == "constant" else 0.1) + rng.normal(0, 0.01)
        return {"accuracy_sampled": 0.6 + gain, "gain_sampled": gain, "first_entropy_nats": 0.4}

    text = build_report(open_sweep(write_grid(tmp_path / "knob", file, value)))
    assert "Best on all seeds: " in text
