"""The Slurm job under a pretended Slurm: `srun` and `scontrol` of our own on this machine."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.docker.test_docker import tool

BIN = Path(sys.executable).parent
SRUN = """
echo "srun $*" >> "$LOG"
while [[ $1 == --* ]]; do shift; done
[[ $1 == hostname ]] && { echo 127.0.0.1; exit; }
exec "$@"
"""
SCONTROL = """
echo "scontrol $*" >> "$LOG"
[[ $1 == show ]] && printf '%s\\n' $NODES
exit 0
"""
RAY = """
echo "ray $*" >> "$LOG"
[[ $1 == start ]] && exec sleep 60
exit 0
"""
DRIVER = """
echo "driver $*" >> "$LOG"
trap 'sleep 0.3; exit 130' TERM
for _ in $(seq "$STEPS"); do sleep 0.1; done
exit "$CODE"
"""


class Slurm:
    """A pretended Slurm in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        self.tools = folder / "bin"
        self.scratch = folder
        self.patience_s = 0.0
        for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
            tool(self.tools, name, text)

    def start(self, *words: str, nodes: str = "a b c", **environment: str) -> subprocess.Popen[str]:
        """Render a job as `launch --dry-run` does and start it."""
        command = [BIN / "emsweep", "launch", *words, "cluster=slurm", "--dry-run"]
        command += ["cluster.job.setup=':'", f"cluster.job.scratch={self.scratch}"]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        (self.folder / "job").write_text(text)
        given = {"LOG": str(self.log), "NODES": nodes, "SLURM_JOB_ID": "4321", "SLURM_JOB_NODELIST": "a,b,c"}
        given |= {"PATH": f"{self.tools}:{BIN}:{os.environ['PATH']}", "USER": "me", **environment}
        return subprocess.Popen(
            ["bash", self.folder / "job"],
            cwd=self.folder,
            env={**os.environ, **given},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def end(self, process: subprocess.Popen[str], timeout_s: float = 60) -> int:
        """Wait for the job and end its steps, as Slurm does."""
        try:
            return process.wait(timeout_s)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
                time.sleep(self.patience_s)
                os.killpg(process.pid, signal.SIGKILL)

    def lines(self, first: str) -> list[str]:
        """What a command was called with."""
        return [line for line in self.log.read_text().splitlines() if line.startswith(f"{first} ")]


@pytest.fixture
def slurm(tmp_path):
    return Slurm(tmp_path)


@pytest.fixture
def pretended(slurm):
    """Ray and emsweep pretended too."""
    tool(slurm.tools, "ray", RAY)
    tool(slurm.tools, "emsweep", DRIVER)
    return slurm


def test_a_job_starts_a_head_and_a_node_on_each_other_machine_and_launches_there(pretended):
    process = pretended.start("sweep=noop", STEPS="1", CODE="0")
    assert pretended.end(process) == 0
    [head] = [line for line in pretended.lines("srun") if "ray start" in line]
    [others] = [line for line in pretended.lines("srun") if "emsweep join" in line]
    assert "--nodelist=a" in head
    assert "--head" in head
    assert "--include-dashboard=false" in head
    assert "--nodes=2 --ntasks=2 " in others
    assert "--exclude=a" in others
    [driver] = pretended.lines("driver launch")
    words = "driver launch sweep=noop cluster.grace_s=120 cluster=ray_address cluster.grows_to=512 --dir"
    assert driver.startswith(words)
    assert re.search(r" --address \d+\.\d+\.\d+\.\d+:24321$", driver)
    assert not any("requeue" in line for line in pretended.lines("scontrol"))


def test_the_secret_is_in_no_argument_and_in_one_file_that_its_owner_alone_reads(pretended):
    tool(pretended.tools, "ray", 'cat "$RAY_AUTH_TOKEN_PATH" > "$LOG.token"')
    process = pretended.start("sweep=noop", STEPS="1", CODE="0")
    assert pretended.end(process) == 0
    token = (pretended.folder / "log.token").read_text().strip()
    assert len(token) == 64
    kept = pretended.folder / "outputs" / "noop" / "ray-token"
    assert kept.stat().st_mode & 0o777 == 0o600
    for path in pretended.folder.rglob("*"):
        if path.is_file() and path.name not in ("log.token", "ray-token"):
            assert token not in path.read_text(), path


def test_a_preempted_job_lets_the_driver_finish_and_queues_itself_again(pretended):
    process = pretended.start("sweep=noop", STEPS="600", CODE="0")
    deadline = time.monotonic() + 60
    while not (pretended.log.exists() and pretended.lines("driver")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGUSR1)
    assert pretended.end(process) == 130
    assert pretended.lines("scontrol")[-1] == "scontrol requeue 4321"


def test_a_job_that_fails_is_not_queued_again(pretended):
    process = pretended.start("sweep=noop", STEPS="1", CODE="1")
    assert pretended.end(process) == 1
    assert not any("requeue" in line for line in pretended.lines("scontrol"))


@pytest.mark.slow
def test_a_real_sweep_runs_on_the_ray_that_the_job_brings_up(slurm):
    with tempfile.TemporaryDirectory(prefix="job") as scratch:  # Ray's sockets need short names
        slurm.scratch, slurm.patience_s = Path(scratch), 8.0
        process = slurm.start("sweep=noop", "sweep.n=20", nodes="a")
        assert slurm.end(process, 200) == 0
    shown = subprocess.run(
        [BIN / "emsweep", "verify", slurm.folder / "outputs/noop", "--json"], capture_output=True, check=True
    )
    assert b'"ok": true' in shown.stdout
