"""Jobs in an image under a real Slurm. The image is this machine with all but the bound folders read-only.

Neither Apptainer nor pyxis is in a registry that tests may use; what stands in for them takes the same words,
refuses any other, and makes namespaces of the kernel's own. Where an Apptainer is installed it is used.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.docker.test_docker import tool
from tests.slurm.test_launch import ROOT, emsweep

INSIDE = """
# mounts… -- command…: everything else can only be read.
binds=()
while [[ $1 != -- ]]; do binds+=("$1"); shift; done
shift
exec unshare --mount --propagation private bash -euc '
  while [[ $1 != -- ]]; do
    IFS=: read -r from to how <<<"$1"
    mount --bind "$from" "${to:-$from}"
    [[ $how != ro ]] || mount -o remount,bind,ro "$to"
    shift
  done
  shift
  mount -o remount,bind,ro /
  exec "$@"' inside "${binds[@]}" -- "$@"
"""
APPTAINER = """
[[ $1 == exec ]] || exit 255
shift
binds=()
while [[ $1 == --* ]]; do
  case $1 in
    --pwd) cd "$2"; shift ;;
    --bind) binds+=("$2"); shift ;;
    *) echo "apptainer: unknown $1" >&2; exit 255 ;;
  esac
  shift
done
[[ $1 == *.sif ]] || { echo "apptainer: no image $1" >&2; exit 255; }
shift
IN_IMAGE=1 exec inside "${binds[@]}" -- "$@"
"""
SRUN = """
options=() binds=() image=
while [[ $1 == --* ]]; do
  case $1 in
    --container-image=*) image=${1#*=} ;;
    --container-mounts=*) IFS=, read -ra binds <<<"${1#*=}" ;;
    --container-workdir=* | --container-env=*) ;;
    *) options+=("$1") ;;
  esac
  shift
done
if [[ -z $image ]]; then exec REAL "${options[@]}" "$@"; fi
IN_IMAGE=1 exec REAL "${options[@]}" inside "${binds[@]}" -- "$@"
"""


@pytest.fixture
def runtimes(cluster, tmp_path, monkeypatch):
    """What runs images, first in the path of every job."""
    tools = tmp_path / "tools"
    tool(tools, "inside", INSIDE)
    tool(tools, "apptainer", APPTAINER)
    tool(tools, "srun", SRUN.replace("REAL", shutil.which("srun")))
    probe = [tools / "inside", tmp_path, "--", "true"]
    done = subprocess.run(probe, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no namespaces for mounts here: {done.stderr.strip()}")
    monkeypatch.setitem(cluster.environment, "PATH", f"{tools}:{cluster.environment['PATH']}")


@pytest.fixture
def scratch():
    with tempfile.TemporaryDirectory(prefix="node") as folder:  # Ray's sockets need short names
        yield folder


def launched(cluster, folder: Path, runtime: str, scratch: str, *words: str) -> str:
    job = {"nodes": 2, "gpus_per_node": 0, "cpus_per_node": 1, "memory_gib": 4, "scratch": scratch}
    job["setup"] = f"'export PATH={Path(sys.executable).parent}:$PATH PYTHONPATH={ROOT}'"
    job |= {"container.runtime": runtime, "container.image": "emsweep.sif"}
    asked = [f"cluster.job.{key}={value}" for key, value in job.items()]
    told = emsweep(
        cluster, folder, "launch", "sweep=noop", *words, "cluster=slurm", *asked, "--dir", folder / "out"
    )
    return told["job"]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("runtime", ["apptainer", "pyxis"])
def test_a_job_in_an_image_writes_to_the_folders_it_is_given_alone_and_ends_whole(
    cluster, runtimes, tmp_path, scratch, runtime
):
    job = launched(cluster, tmp_path, runtime, scratch, "sweep.n=40")
    state = cluster.wait_for_job(job, seconds=200)
    assert state == "COMPLETED", next(tmp_path.glob("*.log")).read_text()
    assert emsweep(cluster, tmp_path, "verify", tmp_path / "out")["committed"] == 40


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("runtime", ["apptainer", "pyxis"])
def test_notice_reaches_the_driver_in_its_image_and_the_job_queues_itself_again(
    cluster, runtimes, tmp_path, scratch, runtime
):
    words = ("sweep.n=400", "trainer.params.duration_s=0.5", "cluster.grace_s=5")
    job = launched(cluster, tmp_path, runtime, scratch, *words)
    deadline = time.monotonic() + 150
    while emsweep(cluster, tmp_path, "status", tmp_path / "out")["counts"]["done"] < 3:
        assert time.monotonic() < deadline, next(tmp_path.glob("*.log")).read_text()
        time.sleep(2)
    cluster.call("scancel", "--batch", "--signal=USR1", job)
    while cluster.job_state(job) != "PENDING":
        assert time.monotonic() < deadline + 60, next(tmp_path.glob("*.log")).read_text()
        time.sleep(1)
    cluster.call("scancel", job)
    status = emsweep(cluster, tmp_path, "status", tmp_path / "out")["counts"]
    assert 3 <= status["done"] < 400
    assert status["failed"] == 0
