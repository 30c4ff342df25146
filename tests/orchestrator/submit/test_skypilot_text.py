"""Tasks of SkyPilot: what its own parser says of them, and what the nodes run, on this machine."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import yaml

from orchestrator.cli import main
from orchestrator.submit import render, submit
from sweeps.spec.errors import UserError
from tests.docker.test_docker import tool
from tests.orchestrator.submit.test_request import request

ROOT = Path(__file__).parents[3]
BIN = Path(sys.executable).parent
SECRET = "0123456789abcdef" * 4
CASES = {
    "gpus": ["cluster.job.nodes=4", "cluster.job.bucket=s3://lab-sweeps"],
    "no gpus": ["cluster.job.gpus_per_node=0", "cluster.job.spot=false", "cluster.environment={}"],
    "image": ["cluster.job.image=ghcr.io/lab/emsweep:1", "cluster.job.infra=gcp/us-central1"],
    "set-up": ["cluster.job.setup='pip install x; echo \"it: $HOME\"'", "+cluster.environment.NO='off'"],
}
ACCEPTED = """
import json, sys
import sky
for config in json.load(sys.stdin):
    task = sky.Task.from_yaml_config(config, secrets_overrides={"RAY_AUTH_TOKEN": "x"})
    [asked] = task.resources
    print(json.dumps([task.name, task.num_nodes, asked.to_yaml_config(), task.envs, task.setup, task.run]))
"""


def task_of(*words: str) -> dict:
    return yaml.safe_load(render(request("cluster=skypilot", *words)))


def test_a_task_asks_for_nodes_with_the_gpus_and_for_its_bucket():
    task = task_of(*CASES["gpus"])
    assert task["name"] == "emsweep-noop"
    assert task["num_nodes"] == 4
    assert task["resources"] == {
        "cpus": "32+",
        "memory": "128+",
        "accelerators": "H100:8",
        "use_spot": True,
    }
    [(_, mount)] = task["file_mounts"].items()
    assert mount == {"source": "s3://lab-sweeps", "mode": "MOUNT"}
    assert task["secrets"] == {"RAY_AUTH_TOKEN": None}
    assert "--num-gpus=8" in task["run"]


def test_no_line_speaks_of_what_is_not_asked():
    task = task_of(*CASES["no gpus"])
    assert set(task["resources"]) == {"cpus", "memory"}
    assert "file_mounts" not in task
    assert "bucket" not in task["run"]
    assert "emsweep-venv" not in json.dumps(task_of(*CASES["image"]))


def test_values_reach_the_task_as_they_are():
    task = task_of(*CASES["set-up"])
    assert task["setup"] == 'pip install x; echo "it: $HOME"'
    assert task["envs"]["NO"] == "off"


def test_nodes_without_a_shared_folder_keep_results_until_the_driver_fetches_them():
    assert "cluster.node_spools=/tmp/emsweep/spools" in task_of()["run"]
    own = task_of("cluster.node_spools=/mine")["run"]
    assert "cluster.node_spools=/mine" in own
    assert own.count("node_spools=") == 1


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("cluster.job.gpu=null", r"cluster\.job\.gpu: is missing.*cluster\.job\.gpu=H100"),
        ("cluster.job.bucket=lab", r"cluster\.job\.bucket='lab'"),
        ("cluster.job.infra='a b'", r"cluster\.job\.infra='a b'"),
    ],
)
def test_a_task_that_could_not_start_is_refused(word, message):
    with pytest.raises(UserError, match=message):
        request("cluster=skypilot", word)


def test_a_sweep_directory_without_a_bucket_is_warned_of(capsys):
    words = ("plan", "sweep=noop", "sweep.n=1", "cluster=skypilot", "--json")
    assert main([*words]) == 0
    [warning] = json.loads(capsys.readouterr().out)["warnings"]
    assert "cluster.job.bucket=s3://" in warning
    assert main([*words, "cluster.job.bucket=gs://lab"]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == []


def test_what_nodes_run_is_a_script_that_shellcheck_has_nothing_to_say_of(tmp_path):
    shellcheck = shutil.which("shellcheck", path=str(BIN)) or pytest.skip("shellcheck is not installed")
    for name, words in CASES.items():
        (tmp_path / f"{name}.sh").write_text(task_of(*words)["run"])
    scripts = map(str, tmp_path.glob("*.sh"))
    done = subprocess.run([shellcheck, "--shell=bash", *scripts], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_sky_gets_the_task_and_its_secret_in_the_environment_alone(tmp_path, monkeypatch):
    says = 'echo "$*" > "$0.called"; /bin/cat "${@: -1}" > "$0.got"; echo "$RAY_AUTH_TOKEN" > "$0.secret"'
    tool(tmp_path, "sky", f"{says}\necho 'Job submitted, ID: 12'")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("HF_TOKEN", "hf_private")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    asked = request("cluster=skypilot")
    answer, note = submit(asked)
    assert (answer, note.system, note.job) == ("managed job 12", "skypilot", "12")
    assert (tmp_path / "sky.got").read_text() == render(asked)
    called = (tmp_path / "sky.called").read_text()
    assert called.startswith("jobs launch --yes --detach-run --secret RAY_AUTH_TOKEN --secret HF_TOKEN /")
    secret = (tmp_path / "sky.secret").read_text().strip()
    assert len(secret) == 64
    assert secret not in called
    assert "hf_private" not in called


def test_a_sweep_in_a_cloud_cannot_be_followed_here_and_nothing_is_submitted(tmp_path, monkeypatch, capsys):
    tool(tmp_path / "bin", "sky", 'echo called > "$0.called"')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    words = ("launch", "sweep=noop", "sweep.n=1", "cluster=skypilot", "--dir", str(tmp_path / "out"))
    assert main([*words, "--follow"]) == 2
    assert "sky jobs logs" in capsys.readouterr().err
    assert not (tmp_path / "bin" / "sky.called").exists()


def test_without_sky_a_dry_run_is_offered(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"there is no sky here.*--dry-run"):
        submit(request("cluster=skypilot"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_skypilots_own_parser_accepts_every_task(tmp_path):
    """In an environment of its own: SkyPilot pins versions of click and uvicorn that ours do not have."""
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    pip = [python, "-m", "pip", "install", "--quiet", "skypilot>=0.10"]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"skypilot cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
    tasks = {name: task_of(*words) for name, words in CASES.items()}
    told = subprocess.run(
        [python, "-c", ACCEPTED],
        input=json.dumps(list(tasks.values())),
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path), "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    read = dict(zip(tasks, map(json.loads, told.stdout.splitlines()), strict=True))
    assert read["gpus"][1] == 4
    assert read["gpus"][2]["accelerators"] == {"H100": 8}
    for name, task in tasks.items():
        assert read[name][4:] == [task.get("setup"), task["run"]]


class Nodes:
    """The nodes of a task on this machine: folders, a bucket, and one process each."""

    def __init__(self, folder: Path, text: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.folder = folder
        self.script = folder / "run.sh"
        self.script.write_text(text.replace(":6379", f":{port}").replace("sleep 60", "sleep 1"))
        (folder / "emsweep-bucket").mkdir()

    def start(self, rank: int, work: str) -> subprocess.Popen[bytes]:
        (self.folder / work).mkdir(exist_ok=True)
        given = {"SKYPILOT_NODE_IPS": "127.0.0.1\n127.0.0.1", "SKYPILOT_NODE_RANK": str(rank)}
        given |= {"RAY_AUTH_TOKEN": SECRET, "HOME": str(self.folder), "PYTHONPATH": str(ROOT)}
        with (self.folder / f"{work}.log").open("wb") as log:
            return subprocess.Popen(
                ["bash", self.script],
                cwd=self.folder / work,
                env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", **given},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_node_that_takes_anothers_place_goes_on_with_the_copy_in_the_bucket(tmp_path):
    scratch = Path(tempfile.mkdtemp(prefix="sky", dir="/tmp"))  # Ray's sockets need short names
    words = ["trainer.params.duration_s=0.5", "sweep.n=30", "cluster.job.gpus_per_node=0"]
    words += ["cluster.job.nodes=2", "cluster.job.bucket=s3://lab", f"cluster.job.scratch={scratch}"]
    asked = request("cluster=skypilot", *words)
    nodes = Nodes(tmp_path, yaml.safe_load(render(asked))["run"])
    kept, seen = tmp_path / "emsweep-bucket" / "noop", tmp_path / "seen"
    lost = nodes.start(0, "lost")
    try:
        deadline = time.monotonic() + 100
        while not any(path.stat().st_size for path in kept.glob("spool/e1-*.jsonl")):
            assert time.monotonic() < deadline, (tmp_path / "lost.log").read_text()
            time.sleep(0.3)
        shutil.copytree(kept, seen)
    finally:
        lost.terminate()
        lost.wait(60)
    # The node and its disk are gone; the bucket has what it had while the sweep ran.
    shutil.rmtree(kept)
    seen.rename(kept)
    shutil.rmtree(scratch / "emsweep")
    other, first = nodes.start(1, "other"), nodes.start(0, "first")
    try:
        assert first.wait(150) == 0, (tmp_path / "first.log").read_text()
        assert other.wait(100) == 0  # a node ends with the head
    finally:
        for process in (first, other):
            process.terminate()
        shutil.rmtree(scratch, ignore_errors=True)
    told = subprocess.run(
        [sys.executable, "-P", "-m", "orchestrator.cli", "verify", kept, "--json"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
    )
    found = json.loads(told.stdout)
    assert (found["committed"], found["duplicated"], found["ok"]) == (30, 0, True)
    assert len(list(kept.glob("spool/driver-*.jsonl"))) == 2
