"""``emsweep init``: what it writes, and that what it prints can be run as it stands."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from analysis import open_sweep
from orchestrator.cli import main

ROOT = Path(__file__).parents[3]
SCRIPTS = Path(sys.executable).parent


def shell(line: str, folder: Path) -> str:
    """Run a line as a user would paste it."""
    path = f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    done = subprocess.run(
        line,
        shell=True,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def printed_lines(text: str) -> list[str]:
    return re.findall(r"^  (.+)$", text, re.MULTILINE)


@pytest.mark.slow
def test_the_printed_lines_launch_show_and_test_the_project(tmp_path):
    launch, table, test = printed_lines(shell("emsweep init outputs/mine", tmp_path))
    assert launch.startswith("emsweep launch ")
    assert "--allow-target train" in launch
    shell(launch, tmp_path)
    assert "accuracy by trainer.params.rate" in shell(table, tmp_path)
    assert "2 passed" in shell(test, tmp_path)
    sweep = open_sweep(tmp_path / "outputs" / "mine" / "results")
    assert sweep.counts() == {"done": 12}
    assert sweep.runs()["accuracy"].between(0.6, 1).all()
    assert sorted(set(sweep.steps()["step"])) == list(range(10, 101, 10))


def test_the_launch_line_holds_for_any_folder(tmp_path):
    name = "projects/two words/my-study.v1.2"
    answer = json.loads(shell(f"emsweep init '{name}' --json", tmp_path))
    shell(f"{answer['launch']} --pool inline", tmp_path)
    assert open_sweep(tmp_path / name / "results").counts() == {"done": 12}


def test_the_files_say_the_lines_that_are_printed_and_no_word_of_a_template_is_left(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["init", "mine"]) == 0
    text = {path.name: path.read_text() for path in (tmp_path / "mine").iterdir()}
    assert set(text) == {"mine.yaml", "train.py", "test_train.py"}
    assert all("emsweep launch sweep=mine/mine.yaml" in text[name] for name in ("mine.yaml", "train.py"))
    assert "pytest mine" in text["test_train.py"]
    assert [name for name, body in text.items() if re.search(r"\b(LAUNCH|TEST|NAME)\b", body)] == []


def test_nothing_is_overwritten(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "train.py").write_text("mine")
    assert main(["init", "mine"]) == 2
    assert "would overwrite mine/train.py" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["train.py"]


def test_a_folder_that_is_there_with_other_files_is_used(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "data.csv").write_text("a\n1\n")
    assert main(["init", "mine"]) == 0
    assert (tmp_path / "mine" / "data.csv").read_text() == "a\n1\n"


@pytest.mark.parametrize("name", ["..", "a b", "sweep=x"])
def test_a_name_that_could_not_be_launched_is_refused(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["init", name]) == 2
    assert "use letters, digits" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert main(["init", "file/mine"]) == 2
    assert "cannot be written" in capsys.readouterr().err
