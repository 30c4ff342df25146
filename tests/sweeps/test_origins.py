"""A user's folders and modules that have names of our packages: theirs and ours, each where it belongs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = f"{ROOT}{os.pathsep}{ROOT / 'orchestrator/hydra_launcher/plugin'}"
NAMES = ("sweeps", "trainers", "orchestrator", "analysis")
FORMS = ("package", "module", "folder")


def made(folder: Path, name: str, form: str) -> Path:
    """A user's module of a name, in one of the forms; it says that it is theirs."""
    if form == "module":
        path = folder / f"{name}.py"
        path.write_text("WHOSE = 'theirs'\n")
        return path
    (folder / name).mkdir()
    if form == "package":
        (folder / name / "__init__.py").write_text("WHOSE = 'theirs'\n")
    (folder / name / "own.py").write_text("x = 1\n")
    return folder / name


def python(folder: Path, code: str, *words: str, path: str = OURS) -> subprocess.CompletedProcess[str]:
    """``python -c`` in the folder, which comes first on the path as it does in a notebook."""
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NAMES)
def test_report_takes_no_name_from_a_users_module(tmp_path, name, form):
    made(tmp_path, name, form)
    theirs = f"import {name}; print(getattr({name}, 'WHOSE', 'ours'))"
    for code in (f"from emsweep import report; {theirs}", f"{theirs}; from emsweep import report"):
        done = python(tmp_path, code + "; print(report(1, loss=0.5).stop)")
        assert done.stdout.split() == ["ours" if form == "folder" else "theirs", "False"], done.stderr
        assert done.stderr == ""


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NAMES)
def test_what_needs_all_of_our_packages_finds_them_and_names_what_it_passes_over(tmp_path, name, form):
    place = made(tmp_path, name, form)
    done = python(
        tmp_path, f"from emsweep import origins; print(origins().claim()); import {name}.{MARKED[name]}"
    )
    assert done.returncode == 0, done.stderr
    assert f"{place}: is passed over, for emsweep has a package {name} of its own; rename it" in done.stdout


MARKED = {"sweeps": "spec", "trainers": "protocol", "orchestrator": "store", "analysis": "data"}
"""A module of ours in each."""


@pytest.mark.parametrize("name", NAMES)
def test_a_users_module_that_was_imported_first_is_named_with_the_fix(tmp_path, name):
    place = made(tmp_path, name, "package")
    done = python(tmp_path, f"import {name}; from emsweep import open_sweep")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert f"{place}: has the name of one of emsweep's packages, {name}" in last
    assert "rename it" in last


def test_nothing_is_said_where_nothing_is_in_the_way(tmp_path):
    (tmp_path / "analysis").mkdir()  # holds no module
    (tmp_path / "analysis" / "notes.txt").write_text("…")
    done = python(tmp_path, "from emsweep import open_sweep; print(open_sweep.__module__)")
    assert (done.stdout, done.stderr) == ("analysis.sweep\n", "")


@pytest.mark.parametrize("name", NAMES)
def test_the_command_works_with_a_users_folder_on_pythonpath_and_names_it(tmp_path, name):
    place = made(tmp_path, name, "package")
    code = "import sys; sys.path.pop(0); from emsweep.__main__ import main; sys.exit(main())"
    done = python(tmp_path, code, "plan", "sweep=noop", path=f"{tmp_path}{os.pathsep}{OURS}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("noop: ")
    assert done.stderr.startswith(f"note: {place}: is passed over")


def test_the_command_ends_with_one_line_where_it_cannot_work(tmp_path):
    place = made(tmp_path, "orchestrator", "package")
    code = "import orchestrator, sys; from emsweep.__main__ import main; sys.exit(main())"
    done = python(tmp_path, code, "plan", "sweep=noop")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"error: {place}: has the name")


def test_in_the_current_folder_of_the_command_nothing_is_in_the_way(tmp_path):
    for name in NAMES:
        made(tmp_path, name, "package")
    script = Path(sys.executable).with_name("emsweep")
    done = subprocess.run(
        [script, "plan", "sweep=noop"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": OURS},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
