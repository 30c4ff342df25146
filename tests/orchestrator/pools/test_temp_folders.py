"""Temporary folders outlive nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile

import pytest

from orchestrator.pools.temp_folders import LOCK, TemporaryFolder, remove_leftovers, temporary_files


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


def test_a_folder_taken_for_a_leftover_before_it_is_held_is_made_anew(temporary, monkeypatch):
    """Another driver removes leftovers between the making of the lock file and holding it."""
    open_file = os.open
    taken = []

    def slow_open(path, *more, **options):
        fd = open_file(path, *more, **options)
        if str(path).endswith(LOCK) and not taken:
            taken.append(path)
            assert remove_leftovers() == 1
        return fd

    monkeypatch.setattr(os, "open", slow_open)
    folder = TemporaryFolder("test")
    assert taken
    assert (folder.path / LOCK).exists()
    assert remove_leftovers() == 0
    folder.remove()
    assert not list(temporary.iterdir())


def test_a_hundred_starting_drivers_keep_their_folders(temporary):
    script = (
        "import sys; from orchestrator.pools.temp_folders import LOCK, TemporaryFolder, remove_leftovers\n"
        "for _ in range(50):\n"
        "    f = TemporaryFolder('test'); remove_leftovers()\n"
        "    if not (f.path / LOCK).exists(): sys.exit(1)\n"
        "    f.remove()\n"
    )
    environment = {**os.environ, "TMPDIR": str(temporary)}
    starting = [subprocess.Popen([sys.executable, "-c", script], env=environment) for _ in range(4)]
    assert [process.wait(60) for process in starting] == [0] * 4
    assert not list(temporary.iterdir())


def test_folders_of_another_user_and_links_to_folders_are_left_alone(temporary):
    elsewhere = temporary / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / LOCK).touch()
    (temporary / "emsweep-link").symlink_to(elsewhere)
    (temporary / "emsweep-pipe").mkdir()
    os.mkfifo(temporary / "emsweep-pipe" / LOCK)
    if os.getuid() == 0:
        (temporary / "emsweep-theirs").mkdir()
        (temporary / "emsweep-theirs" / LOCK).touch()
        os.chown(temporary / "emsweep-theirs" / LOCK, 65534, 65534)
    remove_leftovers()
    assert (elsewhere / LOCK).exists()
    assert os.getuid() or (temporary / "emsweep-theirs" / LOCK).exists()


def test_temporary_files_of_killed_workers_go_with_their_pool(temporary):
    script = "import tempfile; print(tempfile.mkdtemp()); print(tempfile.mkstemp()[1])"
    with TemporaryFolder("test") as folder:
        environment = {**os.environ, **temporary_files(folder.path)}
        left = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
        assert all(line.startswith(f"{folder.path}/") for line in left.stdout.split())
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
