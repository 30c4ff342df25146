"""What a sweep and its answers are in a notebook: shown by themselves, named shortly, pickled, listed."""

from __future__ import annotations

import pickle
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from html.parser import HTMLParser

import pandas as pd
import pytest

from analysis import best_cells, compare, find, open_sweep, survivor_bounds, sweeps, what_to_add
from analysis.output.markup import figure_html
from analysis.tables.compare import compare_levels
from sweeps.spec.errors import UserError
from tests.analysis.synthetic import quickstart_world, write_sweep


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("outputs")
    write_sweep(root / "quickstart", quickstart_world())
    write_sweep(root / "mine" / "failing", quickstart_world(failed=0.2, pending=0.1))
    return root


@pytest.fixture(scope="module")
def sweep(folder):
    return open_sweep(folder / "quickstart")


class Outline(HTMLParser):
    """Which tags open and close, and what a browser would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.fetched += [v for k, v in attrs if k in ("src", "href", "xlink:href") and not v.startswith("#")]

    def handle_startendtag(self, tag, attrs):
        self.fetched += [v for k, v in attrs if k in ("src", "href", "xlink:href") and not v.startswith("#")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_every_face_is_whole_html_that_fetches_nothing_and_runs_nothing(sweep):
    finding = find(sweep, "decoupling")
    faces = {
        "sweep": sweep,
        "table": sweep.cell_table(by="lr"),
        "comparison": compare_levels(sweep, "lr"),
        "best": best_cells(sweep),
        "finding": finding,
        "figure": finding.figure,
    }
    for name, face in faces.items():
        outline = Outline(face._repr_html_())
        assert outline.open == [], name
        assert outline.fetched == [], name
        assert "<script" not in face._repr_html_()


def test_a_finding_shows_its_answer_its_drawing_and_its_table(sweep):
    finding = find(sweep, "decoupling")
    shown = finding._repr_html_()
    assert finding.question in shown
    assert finding.sentences[0].replace("'", "&#x27;").replace(">", "&gt;") in shown
    assert shown.count("<svg") == 1
    assert "<table>" in shown


def test_two_drawings_in_one_notebook_share_no_names():
    svg = '<svg><clipPath id="a"/><g clip-path="url(#a)"/></svg>'
    pieces = [figure_html(svg, "what it shows") for _ in range(2)]
    names = [re.findall(r'id="([^"]+)"', piece) for piece in pieces]
    assert len(set(names[0] + names[1])) == 2
    assert all(f"url(#{name})" in piece for piece, (name,) in zip(pieces, names, strict=True))


def test_a_sweep_shows_its_outcomes_its_axes_and_how_it_is_narrowed(folder):
    shown = open_sweep(folder / "mine" / "failing").where(model="tiny-32")._repr_html_()
    assert "where model=tiny-32" in shown
    assert "failed" in shown
    assert "<td" in shown
    assert "optim.lr" in shown


def test_a_long_table_shows_its_first_rows_and_says_so(tmp_path):
    axes = {"optim.lr": tuple(i * 1e-6 for i in range(1, 80)), "seed": (0, 1)}
    table = open_sweep(write_sweep(tmp_path / "wide", quickstart_world(axes=axes))).cell_table()
    shown = table._repr_html_()
    assert shown.count("<tr>") == 61
    assert "First 60 of 79 rows" in shown


def test_by_is_a_list_or_one_text_with_short_names(sweep):
    listed = sweep.cells(by=["model", "optim.lr"])
    pd.testing.assert_frame_equal(sweep.cells(by="model,lr"), listed)
    pd.testing.assert_frame_equal(sweep.cells(by="model, optim.lr"), listed)
    one = compare(sweep, "lr=1e-4", "lr=2e-4", by="model", match_on="example,seed")
    assert list(one.table.frame["model"]) == ["tiny-64", "tiny-32"]
    assert "optim.lr" in survivor_bounds(sweep, by="lr").frame
    assert len(what_to_add(sweep, "lr=1e-4", "lr=2e-4", by="model").frame) == 2


def test_an_unknown_name_in_a_text_is_named(sweep):
    with pytest.raises(UserError, match="modle"):
        sweep.cells(by="modle,lr")


def test_where_takes_values_by_keyword_one_or_several(sweep):
    by_text = sweep.where("model=tiny-32", "lr=1e-4,2e-4").runs()
    pd.testing.assert_frame_equal(sweep.where(model="tiny-32", lr=[1e-4, 2e-4]).runs(), by_text)
    pd.testing.assert_frame_equal(
        sweep.where(model="tiny-32").where(**{"optim.lr": (1e-4, 2e-4)}).runs(), by_text
    )
    assert len(sweep.where(seed=range(2), outcome="done").runs()) == 48
    with pytest.raises(UserError, match="no value"):
        sweep.where(lr=[])
    with pytest.raises(UserError, match="no run has such a value"):
        sweep.where(model="tiny-*")


def test_a_pickled_sweep_opens_the_same_runs_in_another_process_and_folder(
    sweep, tmp_path, monkeypatch, folder
):
    monkeypatch.chdir(folder)
    narrowed = open_sweep("quickstart").where("lr<1e-3", model="tiny-64")
    (tmp_path / "sweep.pickle").write_bytes(pickle.dumps(narrowed))
    code = (
        "import pickle, pathlib; s = pickle.loads(pathlib.Path('sweep.pickle').read_bytes()); "
        "print(len(s.runs()), type(s).__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["36", "Sweep"], done.stderr
    assert len(pickle.loads(pickle.dumps(sweep)).runs()) == 96


def test_runs_have_their_end_as_a_time_beside_the_seconds_that_are_stored(sweep):
    runs = sweep.runs()
    assert runs["finished_at"].dtype == "float64"
    assert str(runs["finished"].dtype) == "datetime64[us, UTC]"
    seconds = (runs["finished"] - pd.Timestamp(0, tz="UTC")).dt.total_seconds()
    assert (seconds - runs["finished_at"]).abs().max() < 1e-5
    assert list(sweep.runs(["finished", "lr"]).columns) == ["finished", "optim.lr"]
    assert "finished" not in sweep.runs(["lr"])
    assert "finished" not in sweep.metrics


def test_a_run_without_an_end_has_no_time(folder):
    runs = open_sweep(folder / "mine" / "failing").runs()
    pending = runs["outcome"] == "pending"
    assert pending.any()
    assert (runs["finished"].isna() == runs["finished_at"].isna()).all()


def test_comparing_the_values_of_an_axis_leaves_out_those_that_are_filtered_away(sweep):
    whole, part = compare_levels(sweep, "lr"), compare_levels(sweep.where("lr<1e-3"), "lr")
    assert list(part.table.frame["optim.lr"]) == list(whole.table.frame["optim.lr"])[:-1]


def test_a_folder_lists_its_sweeps_with_their_counts_the_newest_first(folder):
    found = sweeps(folder)
    assert set(found["sweep"]) == {"quickstart", "failing"}
    assert list(found["changed"]) == sorted(found["changed"], reverse=True)
    assert (found["changed"] <= datetime.now(UTC)).all()
    failing = found.set_index("sweep").loc["failing"]
    assert failing["runs"] == 96
    assert failing["failed"] > 0
    assert failing["done"] + failing["failed"] + failing["pending"] == 96
    assert failing["axes"] == "model × example × lr × seed"
    assert open_sweep(failing["directory"]).counts()["failed"] == failing["failed"]


def test_the_package_offers_the_list_too(folder):
    import emsweep

    assert list(emsweep.sweeps(folder)["sweep"]) == list(sweeps(folder)["sweep"])


def test_a_damaged_sweep_is_listed_with_what_is_wrong(folder, tmp_path):
    shutil.copytree(folder / "quickstart", tmp_path / "hurt")
    (tmp_path / "hurt" / "manifest.parquet").write_bytes(b"torn")
    write_sweep(tmp_path / "whole", quickstart_world())
    found = sweeps(tmp_path).set_index("sweep")
    assert "emsweep repair" in found.loc["hurt", "problem"]
    assert found.loc["whole", "problem"] is None or pd.isna(found.loc["whole", "problem"])


def test_a_folder_without_sweeps_is_an_empty_list_and_no_folder_is_named(tmp_path):
    assert list(sweeps(tmp_path).columns)[:2] == ["sweep", "runs"]
    assert len(sweeps(tmp_path)) == 0
    with pytest.raises(UserError, match="no such folder"):
        sweeps(tmp_path / "nowhere")
