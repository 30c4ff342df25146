"""A disk that is full while spools, the index and the tables are written, and one that cannot be written."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.chaos.conftest import PACE_S, RUNS, WORDS
from tests.chaos.harness import Sweep, kill, wait_until

pytestmark = pytest.mark.chaos


class Mounts:
    """File systems of a test's own."""

    def __init__(self) -> None:
        self._made: list[Path] = []

    def small(self, folder: Path, size: str) -> Path:
        """Put a small disk at ``folder``, which keeps its contents."""
        return self._over(folder, "-t", "tmpfs", "-o", f"size={size}", "tmpfs")

    def elsewhere(self, folder: Path, roomy: Path) -> Path:
        """Let ``folder``, which keeps its contents, lie at ``roomy``."""
        roomy.mkdir()
        return self._over(folder, "--bind", str(roomy))

    def _over(self, folder: Path, *words: str) -> Path:
        folder.mkdir(exist_ok=True)
        before = folder.with_name(f"{folder.name}.before")
        shutil.copytree(folder, before)
        done = subprocess.run(["mount", *words, str(folder)], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no right to mount a file system here: {done.stderr.strip()}")
        self._made.append(folder)
        shutil.copytree(before, folder, dirs_exist_ok=True)
        shutil.rmtree(before)
        return folder

    def remount(self, folder: Path, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)

    def undo(self) -> None:
        for folder in reversed(self._made):
            subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def mounts():
    made = Mounts()
    yield made
    made.undo()


def fill(folder: Path) -> Path:
    """Leave not a byte free, and return the file to delete for room."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return filler


@pytest.fixture(scope="module")
def once_stopped(tmp_path_factory):
    """The directory of the sweep, stopped cleanly when twenty results were in."""
    made = Sweep(tmp_path_factory.mktemp("stopped") / "sweep", *WORDS, pace_s=PACE_S)
    process = made.launch()
    made.wait_for(20, process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    yield made.folder
    made.close()


def fill_for_a_while(sweep, disk):
    sweep.pace(0.1)  # so that there is more to do than the disk is full for
    num_before = sweep.committed()
    process = sweep.launch()
    sweep.wait_for(num_before + 10, process)
    filler = fill(disk)
    sweep.fault()
    time.sleep(1.5)
    assert process.poll() is None, process.communicate()[1]
    filler.unlink()
    sweep.pace(0)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err


def test_a_disk_full_under_the_spools_pauses_the_sweep_and_room_lets_it_go_on(
    sweep, once_stopped, mounts, reference
):
    sweep.take_up(once_stopped)
    fill_for_a_while(sweep, mounts.small(sweep.folder / "spool", "2m"))
    sweep.prove(reference)


@pytest.mark.slow
def test_a_disk_full_under_the_index_pauses_the_sweep_and_room_lets_it_go_on(
    new_sweep, once_stopped, mounts, tmp_path, reference
):
    disk = mounts.small(tmp_path / "disk", "2m")
    sweep = new_sweep(disk / "sweep")
    sweep.take_up(once_stopped)
    mounts.elsewhere(sweep.folder / "spool", tmp_path / "roomy")
    fill_for_a_while(sweep, disk)
    sweep.prove(reference)


def both_running(sweep):
    """Launch a sweep of two long runs and wait until both run."""
    status = sweep.folder / "status.json"
    status.unlink(missing_ok=True)
    process = sweep.launch()
    wait_until(lambda: status.exists() and json.loads(status.read_text())["counts"]["running"] == 2)
    return process


@pytest.mark.slow
def test_a_disk_full_under_the_tables_ends_in_a_message_and_resume_writes_them(new_sweep, mounts, tmp_path):
    words = (*WORDS[:1], "sweep.n=2", *WORDS[2:])
    quiet = new_sweep(tmp_path / "undisturbed", words, pool="inline")
    quiet.finish()
    disk = mounts.small(tmp_path / "disk", "2m")
    sweep = new_sweep(disk / "sweep", words, pace_s=300)
    kill(both_running(sweep))
    mounts.elsewhere(sweep.folder / "spool", tmp_path / "roomy")
    process = both_running(sweep)
    filler = fill(disk)
    sweep.fault(2)
    sweep.pace(0)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "tables could not be written" in json.loads(out)["reason"]
    filler.unlink()
    sweep.prove(quiet.numbers())


def test_a_disk_that_is_full_from_the_start_is_named_in_one_line(sweep, once_stopped, mounts, reference):
    sweep.take_up(once_stopped)
    filler = fill(mounts.small(sweep.folder / "spool", "2m"))
    sweep.fault()
    process = sweep.launch()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "No space left on device" in err
    assert "emsweep resume" in err
    assert len(err.splitlines()) == 1
    filler.unlink()
    sweep.prove(reference)


def test_a_driver_killed_on_a_full_disk_resumes_once_there_is_room(new_sweep, mounts, tmp_path, reference):
    disk = mounts.small(tmp_path / "disk", "2m")
    sweep = new_sweep(disk / "sweep")
    process = sweep.launch()
    sweep.wait_for(60, process)
    filler = fill(disk)
    time.sleep(0.5)
    kill(process)
    sweep.fault(2)
    filler.unlink()
    sweep.prove(reference)


def test_a_read_only_store_is_refused_for_writing_and_can_be_read(
    new_sweep, once_stopped, mounts, tmp_path, reference
):
    disk = mounts.small(tmp_path / "disk", "20m")
    sweep = new_sweep(disk / "sweep")
    sweep.take_up(once_stopped)
    num = sweep.committed()
    mounts.remount(disk, "ro")
    sweep.fault()
    process = sweep.launch()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "cannot be written (Read-only file system)" in err
    assert 20 <= num <= sweep.verify()["committed"] < RUNS
    mounts.remount(disk, "rw")
    sweep.prove(reference)
