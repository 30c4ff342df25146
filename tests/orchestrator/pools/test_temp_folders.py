"""Temporary folders outlive nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile

import pytest

from orchestrator.pools.temp_folders import TemporaryFolder, remove_leftovers


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_a_folder_in_use_stays_and_goes_with_its_owner(temporary):
    folder = TemporaryFolder("test")
    (folder.path / "file").write_text("x")
    assert remove_leftovers() == 0
    assert folder.path.is_dir()
    folder.remove()
    folder.remove()
    assert not list(temporary.iterdir())


def test_what_a_killed_process_left_is_removed(temporary):
    script = (
        "import os, signal; from orchestrator.pools.temp_folders import TemporaryFolder\n"
        "f = TemporaryFolder('test'); (f.path / 'deep').mkdir(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script], env={**os.environ, "TMPDIR": str(temporary)}, check=False)
    assert len(list(temporary.iterdir())) == 1
    assert remove_leftovers() == 1
    assert not list(temporary.iterdir())


def test_folders_of_others_are_left_alone(temporary):
    (temporary / "emsweep-ours-by-name-only").mkdir()
    (temporary / "other").mkdir()
    assert remove_leftovers() == 0
    assert len(list(temporary.iterdir())) == 2


def test_processes_that_carry_a_folders_mark_end_with_it(temporary):
    folder = TemporaryFolder("test")
    process = subprocess.Popen(["sleep", "300"], env={**os.environ, **folder.mark})
    other = subprocess.Popen(["sleep", "300"])
    folder.remove()
    assert process.wait(5) == -signal.SIGKILL
    assert other.poll() is None
    other.kill()
    other.wait()
