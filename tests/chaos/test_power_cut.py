"""The power may go at any moment: what was committed is there, and nothing looks damaged."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys

import pytest

from orchestrator.inspect.verify import verify
from orchestrator.store.index_reader import read_index
from orchestrator.store.layout import Layout
from orchestrator.store.opening import open_to_look
from orchestrator.store.spool import decode_line
from sweeps.spec.errors import UserError
from tests.chaos.power_cut import STRACE, Disk, calls_of, write_to
from tests.orchestrator.sweeping import noop_manifest, run

pytestmark = pytest.mark.chaos

CUTS_PER_CALL = 4
"""What is unsafe may be there or not: once nothing of it is, then by chance."""


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """The system calls of a launch into a folder whose parents are new as well."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    top = tmp_path_factory.mktemp("traced")
    root, trace = top / "new" / "sweep", top / "trace"
    launch = ("launch", "sweep=noop", "sweep.n=12", "--dir", str(root), "--pool", "inline", "--yes")
    command = (*STRACE, "-o", str(trace), sys.executable, "-m", "orchestrator.cli", *launch)
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        pytest.skip(f"strace does not work here: {done.stderr[-200:]}")
    return top, root, calls_of(trace, top, top)


def committed(disk, root):
    """Runs whose commit the driver's journal has made durable, whether or not its name is."""
    found = set()
    for name, file in disk.names.items():
        if file is not None and "/driver-" in name and name.startswith(str(root / "spool")):
            for raw in file.safe.splitlines(keepends=True):
                line = decode_line(raw)
                if line is not None and line.header["kind"] == "accept":
                    found |= {run_id for run_id, *_ in line.header["runs"]}
    return found


@pytest.mark.slow
def test_what_was_committed_is_there_after_a_power_cut_at_any_call(traced, tmp_path):
    top, root, calls = traced
    disk, num_cuts, most = Disk(top), 0, 0
    disk.names[str(top)] = disk.safe_names[str(top)] = None
    for number, call in enumerate(calls):
        disk.apply(call)
        if call.name == "openat" and "O_CREAT" not in call.flags:
            continue
        for cut in range(CUTS_PER_CALL):
            left = disk.after_a_cut(random.Random(f"{number}/{cut}") if cut else None)
            folder = tmp_path / "cut"
            folder.mkdir()
            write_to(folder, top, left)
            _check(folder / "new" / "sweep", committed(disk, root), f"call {number} {call.name}, cut {cut}")
            shutil.rmtree(folder)
            num_cuts += 1
        most = max(most, len(committed(disk, root)))
    assert most == 12
    assert num_cuts >= 500


def _check(folder, expected, where):
    try:
        opened = open_to_look(folder)
    except UserError:
        assert not expected, where
        return
    reading = read_index(opened.layout, opened.manifest.run_ids)
    there = {opened.manifest.run_ids[i] for i in range(len(reading.book)) if reading.book.committed(i)}
    assert expected <= there, where
    verdict = verify(opened.layout, opened.manifest, frozen=opened.damage)
    wrong = [d for d in verdict.damaged if d.file not in ("status.json", "sweep.yaml", "manifest.parquet")]
    assert not wrong, where


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_launch_after_a_power_cut_finishes_the_sweep(traced, tmp_path, share):
    top, _, calls = traced
    disk = Disk(top)
    disk.names[str(top)] = disk.safe_names[str(top)] = None
    for call in calls[: int(share * len(calls))]:
        disk.apply(call)
    write_to(tmp_path, top, disk.after_a_cut(None))
    manifest = noop_manifest(12)
    run(tmp_path / "new" / "sweep", manifest)
    assert verify(Layout(tmp_path / "new" / "sweep"), manifest).ok
