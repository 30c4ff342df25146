"""A real Slurm of several nodes on this machine: a controller, a daemon for each node, munge of their own.

Nothing of it touches an installed cluster: configuration, keys, state and ports are in a folder.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import time
from pathlib import Path

import psutil

DAEMONS = ("munged", "slurmctld", "slurmd")
INSTALL = "apt-get install --no-install-recommends slurmctld slurmd slurm-client munge"

CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
SlurmctldPort={port}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ReturnToService=2
MpiDefault=none
MailProg=/bin/true
SchedulerParameters=sched_interval=1,batch_sched_delay=0
KillWait=5
NodeName=n[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{last}] CPUs=2 RealMemory=8000
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Why there can be no cluster here; empty if there can."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    absent = [name for name in DAEMONS if shutil.which(name, path=path) is None]
    if absent:
        return f"{', '.join(absent)} not installed: {INSTALL}"
    return "" if os.geteuid() == 0 else "slurmd starts jobs as root only"


class SlurmCluster:
    """Nodes ``n1``, ``n2`` and so on, each of two cores; call its commands with :attr:`environment`."""

    def __init__(self, folder: Path, num_nodes: int) -> None:
        self.folder, self.num_nodes = folder, num_nodes
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("SLURM")},
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
        }
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._filler = ""
        self._nodes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Bring it up; returns once every node waits for work."""
        (self.folder / "state").mkdir(parents=True)
        first = 20_000 + os.getpid() % 10_000
        host = socket.gethostname().partition(".")[0]
        facts = {"host": host, "folder": self.folder, "port": first, "nodes": self.num_nodes}
        (self.folder / "slurm.conf").write_text(
            CONF.format(**facts, first=first + 1, last=first + self.num_nodes)
        )
        self._start_munge()
        self._run("slurmctld", "-D")
        for number in range(1, self.num_nodes + 1):
            self.start_node(f"n{number}")
        self.wait_for("idle", seconds=30)

    def _start_munge(self) -> None:
        user = pwd.getpwnam("munge")
        place = self.folder / "munge"
        place.mkdir()
        key = place / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        for path in (place, key):
            os.chown(path, user.pw_uid, user.pw_gid)
        for folder in (self.folder, *self.folder.parents):  # munged does not trust what others may not enter
            if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
                folder.chmod(folder.stat().st_mode | 0o011)
        files = [f"--{name}-file={place}/{name}" for name in ("key", "pid", "log", "seed")]
        self._run("munged", "--foreground", f"--socket={place}/socket", *files, user=user.pw_uid)
        deadline = time.monotonic() + 10
        while not (place / "socket").exists():
            assert time.monotonic() < deadline, (place / "log").read_text()
            time.sleep(0.05)

    def _run(self, *command: str, user: int | None = None) -> subprocess.Popen[bytes]:
        log = (self.folder / f"{command[0]}-{len(self._daemons)}.out").open("wb")
        daemon = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, user=user)
        self._daemons.append(daemon)
        return daemon

    def call(self, *command: str) -> str:
        """What a command of Slurm's prints."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def wait_for(self, state: str, *, seconds: float) -> None:
        """Wait until every node is in a state."""
        deadline = time.monotonic() + seconds
        states: list[str] = []
        while states != [state] * self.num_nodes:
            assert time.monotonic() < deadline, states
            time.sleep(0.2)
            with contextlib.suppress(AssertionError):
                states = self.call("sinfo", "--Node", "--noheader", "--format=%T").split()

    def fill(self) -> None:
        """Take every node for somebody else."""
        words = ("--parsable", f"--nodes={self.num_nodes}", "--exclusive", "--output=/dev/null")
        self._filler = self.call("sbatch", *words, "--wrap=sleep 900").strip()

    def free(self) -> None:
        """Give the nodes back."""
        if self._filler:
            self.call("scancel", self._filler)
        self._filler = ""

    def mend(self) -> None:
        """Let every node be there and take jobs."""
        for number in range(1, self.num_nodes + 1):
            self.bring_back(f"n{number}")
        self.wait_for("idle", seconds=60)

    def bring_back(self, name: str) -> None:
        """Let a node be there and take jobs."""
        self.start_node(name)
        with contextlib.suppress(AssertionError):  # it is well
            self.call("scontrol", "update", f"NodeName={name}", "State=RESUME")

    def begin_now(self, job: str) -> None:
        """Let a job that was queued again begin at once, rather than after Slurm's two minutes."""
        with contextlib.suppress(AssertionError):  # it has begun meanwhile
            self.call("scontrol", "update", f"JobId={job}", "StartTime=now")

    def nodes_of(self, job: str) -> list[str]:
        """Names of the nodes that a job runs on."""
        told = self.call("squeue", "--noheader", "--jobs", job, "--format=%N").split()
        return self.call("scontrol", "show", "hostnames", *told).split() if told else []

    def stop_node(self, name: str) -> None:
        """Let a node vanish with all that runs on it, as one whose power fails."""
        number = int(name[1:])
        daemon = self._nodes.pop(number)
        daemon.kill()
        daemon.wait()
        there = [
            process
            for process in psutil.process_iter(["environ"])
            if (process.info["environ"] or {}).get("SLURMD_NODENAME") == name
        ]
        with contextlib.suppress(psutil.Error):
            keepers = {a for p in there for a in p.parents() if a.name() == "slurmstepd"}
            there = [*keepers, *there]  # those first who would tell how the others ended
        for process in there:
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.call("scontrol", "update", f"NodeName={name}", "State=DOWN", "Reason=lost")

    def start_node(self, name: str) -> None:
        """Let a node be there, or be there again."""
        number = int(name[1:])
        if number not in self._nodes:
            self._nodes[number] = self._run("slurmd", "-D", "-N", name)

    def job_state(self, job: str) -> str:
        """State of a job, such as ``PENDING``, ``RUNNING`` or ``COMPLETED``."""
        told = self.call("scontrol", "show", "job", job)
        return told.partition("JobState=")[2].split()[0]

    def wait_for_job(self, job: str, *, seconds: float) -> str:
        """Wait until a job has ended, and return how."""
        deadline = time.monotonic() + seconds
        while (state := self.job_state(job)) in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING"):
            assert time.monotonic() < deadline, state
            time.sleep(0.5)
        return state

    def close(self) -> None:
        """Cancel what is queued and end every daemon."""
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            self.call("scancel", "--user=root")
            self.wait_for("idle", seconds=20)
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in self._daemons:
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
