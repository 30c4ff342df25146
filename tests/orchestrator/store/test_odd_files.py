"""Pipes and links in a directory of unknown origin: nobody waits for one or writes through one."""

from __future__ import annotations

import os

import pytest

from orchestrator.cli import main
from orchestrator.store.control import requests_left
from orchestrator.store.layout import Layout
from tests.orchestrator.sweeping import noop_manifest, run


@pytest.mark.parametrize("verb", ["status", "table", "verify", "resume", "repair"])
@pytest.mark.parametrize("name", ["status.json", "state.sqlite", "sweep.yaml"])
def test_a_pipe_in_a_files_place_is_named_and_not_waited_for(tmp_path, capsys, verb, name):
    run(tmp_path / "s", noop_manifest(2))
    (tmp_path / "s" / name).unlink()
    os.mkfifo(tmp_path / "s" / name)
    assert main([verb, str(tmp_path / "s")]) == 2
    assert f"{name}: is a pipe" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["spool", "logs", "driver.lock"])
def test_repair_writes_through_no_link_out_of_the_directory(tmp_path, capsys, name):
    run(tmp_path / "s", noop_manifest(2))
    (tmp_path / "s" / name).rename(tmp_path / "outside")
    (tmp_path / "s" / name).symlink_to(tmp_path / "outside")
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    assert main(["repair", str(tmp_path / "s")]) == 2
    assert f"{name} -> " in capsys.readouterr().err
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_pipes_and_folders_among_the_requests_are_passed_over(tmp_path):
    layout = Layout(tmp_path / "s")
    layout.create()
    os.mkfifo(layout.control / "stop-1-a.json")
    (layout.control / "stop-2-b.json").mkdir()
    (layout.control / "stop-3-c.json").write_text("[" * 100_000)
    (layout.control / "stop-4-d.json").write_text('{"verb": "stop"}')
    assert [request for _, request in requests_left(layout)] == [{"verb": "stop"}]
