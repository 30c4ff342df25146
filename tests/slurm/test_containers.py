"""Jobs in an image under a real Slurm. The image is this machine with all but the bound folders read-only.

Neither Apptainer nor pyxis is a package of Debian; what stands in for them takes the same words,
refuses any other, and makes namespaces of the kernel's own.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile

import pytest

from tests.docker.test_docker import tool
from tests.slurm.queued_sweep import LONG, QueuedSweep, of_one_machine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]

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


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return of_one_machine(tmp_path_factory.mktemp("one") / "out", LONG)


@pytest.fixture
def sweep(cluster, tmp_path, monkeypatch):
    """A sweep where what runs images is first in the path of every job."""
    tools = tmp_path / "tools"
    tool(tools, "inside", INSIDE)
    tool(tools, "apptainer", APPTAINER)
    tool(tools, "srun", SRUN.replace("REAL", shutil.which("srun")))
    probe = [tools / "inside", tmp_path, "--", "true"]
    done = subprocess.run(probe, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no namespaces for mounts here: {done.stderr.strip()}")
    monkeypatch.setitem(cluster.environment, "PATH", f"{tools}:{cluster.environment['PATH']}")
    return QueuedSweep(cluster, tmp_path, LONG)


@pytest.fixture
def image(request):
    """Keys of a job in an image, whose scratch folder is the only one of its own."""
    with tempfile.TemporaryDirectory(prefix="node") as scratch:  # Ray's sockets need short names
        yield {"container.runtime": request.param, "container.image": "emsweep.sif", "scratch": scratch}


@pytest.mark.parametrize("image", ["apptainer", "pyxis"], indirect=True)
def test_a_job_in_an_image_hears_notice_queues_itself_again_and_ends_with_one_machines_numbers(
    cluster, sweep, image, expected
):
    job = sweep.submit(2, **image)
    sweep.wait_for_results(4)
    cluster.call("scancel", "--signal=USR1", "--batch", job)
    told = sweep.wait(lambda status: status["state"] == "waiting")
    assert 4 <= told["counts"]["done"] < len(expected)
    assert sweep.wait_for_end(job) == ["COMPLETED"], sweep.logs()
    assert sweep.verified().equals(expected)


@pytest.mark.parametrize("image", ["apptainer", "pyxis"], indirect=True)
def test_nodes_of_an_elastic_sweep_join_from_their_images_and_leave_with_notice(
    cluster, sweep, image, expected
):
    job = sweep.submit(2, elastic="true", **image)
    sweep.wait_for_results(4)
    cluster.call("scancel", "--signal=USR1", "--batch", f"{sweep.nodes_job}_1")
    assert sweep.wait_for_end(job) == ["COMPLETED"], sweep.logs()
    assert sweep.verified().equals(expected)
