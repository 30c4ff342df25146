from __future__ import annotations

import io
import json
import re
import shutil
import time
from urllib.parse import urlencode

import numpy as np
import pandas as pd
import pytest

from analysis import open_sweep
from analysis.dashboard import snapshot
from analysis.dashboard.vega_figure import HERE
from analysis.tables.cell_table import cell_table
from analysis.tables.compare import compare
from analysis.tables.importance import importance
from orchestrator.store.layout import Layout
from tests.analysis.dashboard.conftest import client_of
from tests.analysis.synthetic import quickstart_world, write_sweep
from tests.orchestrator.races import raced
from tests.orchestrator.searches import search, searched
from tests.orchestrator.sweeping import noop_manifest, run

PAGES = (
    "/",
    "/live",
    "/runs",
    "/runs?group=model",
    "/cells",
    "/curves?by=model",
    "/compare",
    "/findings",
    "/findings/decoupling",
    "/panel/answer",
    "/panel/importance",
    "/panel/best",
    "/panel/failures",
    "/panel/coverage",
)


@pytest.mark.parametrize("path", PAGES)
def test_every_page_answers_without_anything_inline(client, path):
    answer = client.get(path)
    assert answer.status_code == 200
    assert not re.search(
        r"<script(?![^>]*(?:\bsrc=|type=\"application/json\"))|\son\w+=|\bstyle=|javascript:|<style",
        answer.text,
    )
    assert not re.search(r'(?:src|href)="(?:https?:)?//', answer.text)


@pytest.mark.parametrize("path", PAGES)
def test_a_sweep_without_results_says_so_on_every_page(tmp_path_factory, path):
    folder = tmp_path_factory.getbasetemp() / "empty-sweep"
    if not folder.exists():
        write_sweep(folder, quickstart_world(pending=1.0))
    answer = client_of(folder).get(path)
    assert answer.status_code in (200, 400)
    assert "Traceback" not in answer.text


def test_a_sweep_of_one_axis_and_failures_is_shown(tmp_path):
    manifest = noop_manifest(20, target="tests.orchestrator.trainers.Faulty", every=5, steps=2)
    run(tmp_path / "s", manifest)
    client = client_of(tmp_path / "s")
    assert "ArithmeticError" in client.get("/panel/failures").text
    failed = open_sweep(tmp_path / "s").where("outcome=quarantined,failed").runs()["run_id"].iloc[0]
    page = client.get(f"/run/{failed}").text
    assert "does not please me" in page
    assert "attempt 0 failed" in page
    assert f"emsweep replay {tmp_path / 's'} {failed}" in page


def test_of_a_copy_without_journals_failures_are_those_of_its_tables(tmp_path):
    manifest = noop_manifest(20, target="tests.orchestrator.trainers.Faulty", every=5, steps=2)
    run(tmp_path / "s", manifest)
    for name in ("spool", "state.sqlite", "status.json"):
        path = tmp_path / "s" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    page = client_of(tmp_path / "s").get("/panel/failures").text
    assert "ArithmeticError" in page
    assert "class not known" in page
    assert "No run has failed" not in page


def test_what_is_not_known_of_a_copy_without_journals_is_not_called_none(tmp_path):
    folder = tmp_path / "s"
    write_sweep(folder, quickstart_world(pending=0.5))
    assert not Layout(folder).journal_paths()
    page = client_of(folder).get("/panel/failures").text
    assert "Whether any failed is not known" in page
    assert "No run has failed" not in page


def test_hours_are_not_told_of_runs_that_do_not_say_how_long_they_took(tmp_path):
    run(tmp_path / "s", noop_manifest(5, target="tests.orchestrator.trainers.Bare"))
    page = client_of(tmp_path / "s").get("/").text
    assert "runs do not say how long they took" in page


def test_the_first_page_counts_what_the_sweep_counts(client, ragged):
    page = client.get("/").text
    for outcome, count in open_sweep(ragged).counts().items():
        assert f"{count} {outcome}" in page


def test_saved_tables_are_the_analysis_own(client, ragged):
    sweep = open_sweep(ragged)
    saved = pd.read_csv(io.StringIO(client.get("/panel/importance.csv").text))
    pd.testing.assert_frame_equal(saved, importance(sweep).frame, check_dtype=False)
    query = urlencode({"a": "optim.lr=1e-4", "b": "optim.lr=2e-4", "by": "model"})
    saved = pd.read_csv(io.StringIO(client.get(f"/compare.csv?{query}").text))
    expected = compare(sweep, "optim.lr=1e-4", "optim.lr=2e-4", by=["model"]).table.frame
    np.testing.assert_allclose(saved["p_holm"], expected["p_holm"])
    saved = pd.read_csv(io.StringIO(client.get("/cells.csv?x=optim.lr&y=model").text))
    expected = cell_table(sweep, by=["model", "optim.lr"], robust=False, over="seeds").frame
    np.testing.assert_allclose(saved["value"], expected["mean"])
    np.testing.assert_allclose(saved["low"], expected["mean_low"])


def test_all_runs_that_a_filter_means_are_saved_in_the_chosen_order(client, ragged):
    query = urlencode({"filter": "model=tiny-64 outcome=done", "sort": "gain_sampled", "way": "down"})
    saved = pd.read_csv(io.StringIO(client.get(f"/runs.csv?{query}").text))
    expected = open_sweep(ragged).where("model=tiny-64", "outcome=done").runs()
    assert sorted(saved["run_id"]) == sorted(expected["run_id"])
    assert saved["gain_sampled"].is_monotonic_decreasing


def test_a_mistake_in_a_filter_is_said_beside_the_box(client):
    answer = client.get("/runs", params={"filter": "optim.lrr=1e-4"})
    assert answer.status_code == 400
    assert "did you mean" in answer.text
    assert 'value="optim.lrr=1e-4"' in answer.text


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/cells?x=nope", "unknown axis"),
        ("/cells?metric=nope", "unknown metric"),
        ("/runs?page=-1", "whole number"),
        ("/runs?size=100000", "whole number"),
        ("/runs?sort=nope", "unknown column"),
        ("/runs?way=sideways", "choose one of up, down"),
        ("/findings/nope", "unknown finding"),
        ("/panel/nope", "unknown panel"),
        ("/run/0000", "no such run"),
        ("/run/..%2f..%2fetc%2fpasswd", ""),
        ("/compare?a=optim.lr%3D1e-4&b=optim.lr%3D7", "no run has such a value"),
    ],
)
def test_a_view_that_does_not_exist_says_what_does(client, path, says):
    answer = client.get(path)
    assert answer.status_code in (400, 404)
    assert says in answer.text


def test_an_address_of_any_length_is_refused_not_read(client):
    assert client.get("/runs?filter=" + "a" * 9_000).status_code == 414


def test_a_link_to_an_earlier_state_says_so(client):
    now = re.search(r"snapshot=([0-9a-f]{10})", client.get("/runs").text)[1]
    assert "The sweep has changed since" not in client.get(f"/runs?snapshot={now}").text
    assert "The sweep has changed since" in client.get("/runs?snapshot=0123456789").text


def test_markup_from_runs_and_requests_is_shown_as_text(client, tmp_path, ragged):
    assert "<script>alert" not in client.get("/runs", params={"filter": "<script>alert(1)</script>"}).text
    shutil.copytree(ragged, tmp_path / "s")
    rows = pd.read_parquet(tmp_path / "s" / "runs.parquet")
    rows["error"] = "<img src=x onerror=alert(1)>"
    rows.to_parquet(tmp_path / "s" / "runs.parquet")
    hostile = client_of(tmp_path / "s")
    page = hostile.get(f"/run/{rows['run_id'][0]}").text
    assert "&lt;img src=x onerror" in page
    assert "<img" not in page


def test_a_directory_that_disappears_is_said_and_found_again(tmp_path, quickstart):
    folder = tmp_path / "s"
    shutil.copytree(quickstart, folder)
    client = client_of(folder)
    assert client.get("/runs").status_code == 200
    folder.rename(tmp_path / "away")
    client.get("/live")
    gone = [client.get(path) for path in ("/", "/runs?sort=gain_sampled", "/cells", "/panel/answer")]
    assert {answer.status_code for answer in gone} == {503}
    assert "does not exist" in gone[0].text
    (tmp_path / "away").rename(folder)
    assert client.get("/runs").status_code == 200


def test_a_part_that_is_being_written_is_left_out(tmp_path, ragged):
    folder = tmp_path / "s"
    shutil.copytree(ragged, folder)
    (folder / "steps.parquet").write_bytes((folder / "steps.parquet").read_bytes()[:-200])
    client = client_of(folder)
    assert client.get("/").status_code == 200
    assert "No step of these runs is recorded" in client.get("/curves?by=model").text


def test_python_lines_make_what_is_shown(client, ragged):
    from html import unescape

    page = client.get("/panel/best").text
    code = unescape(re.search(r"<pre>(from analysis import.*?)</pre>", page, re.DOTALL)[1])
    *lines, last = code.strip().splitlines()
    scope: dict = {}
    exec("\n".join(lines), scope)
    frame = eval(last, scope)
    saved = pd.read_csv(io.StringIO(client.get("/panel/best.csv").text))
    np.testing.assert_allclose(saved["mean"], frame["mean"])


def test_tiles_lead_to_their_runs_on_the_page_and_nowhere_in_a_file(client):
    page = client.get("/cells?x=optim.lr&y=model").text
    assert page.count(f'"{HERE}/runs?filter=model%3Dtiny-64+optim.lr%3D0.0001"') == 1
    saved = client.get("/cells.svg?x=optim.lr&y=model").text
    assert "<svg" in saved
    assert "<a " not in saved
    assert HERE not in saved


def test_the_parts_of_an_open_page_do_not_run_ahead_of_it(tmp_path, ragged, monkeypatch):
    monkeypatch.setattr(snapshot, "CHECK_S", 0.0)
    monkeypatch.setattr(snapshot, "FOLLOW_SHARE", 1e-9)
    shutil.copytree(ragged, tmp_path / "s")
    status = {"state": "running", "total": 96, "counts": {}, "updated_at": time.time()}
    (tmp_path / "s" / "status.json").write_text(json.dumps(status))
    client = client_of(tmp_path / "s")
    seen = re.search(r"snapshot=([0-9a-f]{10})", client.get("/").text)[1]
    rows = pd.read_parquet(tmp_path / "s" / "runs.parquet")
    rows.to_parquet(tmp_path / "s" / "runs.parquet", compression="gzip")
    part = {"hx-request": "true"}
    assert "hx-trigger" not in client.get(f"/live?seen={seen}", headers=part).headers
    assert client.get("/live?seen=another", headers=part).headers["hx-trigger"] == "newer"
    assert f"snapshot={seen}" not in client.get("/").text  # who opens a page sees how things are


def test_a_race_has_its_panel_and_every_page_says_what_its_intervals_lack(tmp_path):
    run(tmp_path / "s", raced())
    client = client_of(tmp_path / "s")
    panel = client.get("/panel/race").text
    assert "2 cells decided (1 above, 1 below)" in panel
    assert "1 cell undecided" in panel
    assert "/panel/race" in client.get("/").text
    assert "/panel/best" not in client.get("/").text
    for path in ("/", "/cells", "/compare", "/findings", "/runs"):
        assert "is for seeds fixed beforehand" in client.get(path).text


def test_a_search_has_its_panel_and_every_page_says_how_its_runs_came(tmp_path):
    search(tmp_path / "s", searched("prune=asha", trials=5))
    client = client_of(tmp_path / "s")
    panel = client.get("/panel/search").text
    assert "Search by tpe for the highest score: 5 of 5 trials done. Best: trial " in panel
    assert "on 3 seeds that did not" in panel
    assert client.get("/panel/search.csv").text.startswith("trial,trainer.params.x,value,n,held_out")
    assert "/panel/search" in client.get("/").text
    assert "/panel/best" not in client.get("/").text
    for path in ("/", "/cells", "/compare", "/findings", "/runs"):
        page = client.get(path).text
        assert "A search chose these runs by earlier results" in page
        assert "Runs that did badly early were stopped (prune=asha)" in page


def test_a_sweep_without_a_race_has_none_of_it(client):
    page = client.get("/").text
    assert "/panel/race" not in page
    assert "/panel/search" not in page
    assert "fixed beforehand" not in page
