from __future__ import annotations

import dataclasses
import shlex

import pytest
import yaml

from orchestrator.submit import render, request_of, submit
from orchestrator.submit.job_fields import checked_job
from sweeps.compose import compose_sweep
from sweeps.manifest.build import build_manifest
from sweeps.spec.errors import UserError


def request(*words, **more):
    manifest = build_manifest(compose_sweep(["sweep=noop", "sweep.n=2", *words]))
    return request_of(manifest, ["sweep=noop", "sweep.n=2", *words], directory="my place", **more)


def test_the_job_launches_with_the_same_words_but_those_about_the_queue():
    words = ("cluster=slurm", "cluster.job.nodes=3", "seed=range(4)", "cluster.max_gpus=8")
    asked = request(*words, flags=["--allow-target", "mine"])
    assert asked.command == [
        *("emsweep", "launch", "sweep=noop", "sweep.n=2", "seed=range(4)", "cluster.max_gpus=8"),
        *(
            "cluster.grace_s=120",
            "cluster=ray_address",
            "cluster.grows_to=192",
            "--dir",
            "my place",
            "--yes",
            "--allow-target",
            "mine",
        ),
    ]


def test_words_reach_the_shell_as_they_are():
    text = render(request("cluster=slurm", "trainer.params.note='a $(b) c'"))
    [line] = [line for line in text.splitlines() if line.startswith("emsweep launch")]
    assert "trainer.params.note='a $(b) c'" in shlex.split(line)
    job = yaml.safe_load(render(request("cluster=kuberay", "trainer.params.note='a \"b\" c'")))
    assert "trainer.params.note='a \"b\" c'" in shlex.split(job["spec"]["entrypoint"])


def test_variables_of_the_environment_reach_both_queues():
    words = ("+cluster.environment.NCCL_SOCKET_IFNAME='eth0 ib0'",)
    assert "export NCCL_SOCKET_IFNAME='eth0 ib0'" in render(request("cluster=slurm", *words))
    job = yaml.safe_load(render(request("cluster=kuberay", *words)))
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert {"name": "NCCL_SOCKET_IFNAME", "value": "eth0 ib0"} in head["env"]


def test_spot_nodes_are_tolerated_where_asked():
    def tolerations(*words):
        job = yaml.safe_load(render(request("cluster=kuberay", *words)))
        workers = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
        return [t["key"] for t in workers["template"]["spec"]["tolerations"]]

    assert "spot" in tolerations()
    assert tolerations("cluster.job.spot=false") == ["nvidia.com/gpu"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cluster=laptop"], "names no queue; choose cluster=slurm or cluster=kuberay"),
        (["cluster=slurm", "cluster.submit=slrum"], 'did you mean "slurm"'),
        (["cluster=slurm", "resources.gpus_per_worker=9"], "a node has 8 and 64"),
        (["cluster=slurm", "resources.cpus_per_worker=65"], "cluster.job.cpus_per_node"),
        (["cluster=slurm", "resources=gpu", "resources.world_size=65"], "the job has 64"),
    ],
)
def test_a_job_that_could_not_run_is_refused(words, message):
    with pytest.raises(UserError, match=message):
        request(*words)


def test_without_the_queues_command_a_dry_run_is_offered(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"there is no sbatch here.*--dry-run"):
        submit(request("cluster=slurm"))


def test_the_queue_gets_the_text_and_its_answer_is_told(monkeypatch, tmp_path):
    fake = tmp_path / "sbatch"
    fake.write_text('#!/bin/sh\n/bin/cat > "$0.got"; echo Submitted batch job 7\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    asked = request("cluster=slurm")
    answer, note = submit(asked)
    assert (answer, note.system, note.job) == ("Submitted batch job 7", "slurm", "7")
    assert (tmp_path / "sbatch.got").read_text() == render(asked)
    fake.write_text("#!/bin/sh\necho sbatch: error: invalid partition >&2; exit 1\n")
    with pytest.raises(UserError, match="invalid partition"):
        submit(asked)


@pytest.mark.parametrize(
    ("system", "key", "value"),
    [
        ("slurm", "partition", "gpu\n#SBATCH --uid=0"),
        ("slurm", "partition", "gpu\nrm -rf ~"),
        ("slurm", "account", "a b"),
        ("slurm", "time", "1:00; true"),
        ("slurm", "nodes", "1\n#SBATCH --wrap=x"),
        ("slurm", "memory_gib", "512G\n"),
        ("slurm", "nodes", 0),
        ("slurm", "cpus_per_node", 0),
        ("slurm", "driver_cpus", 0),
        ("slurm", "scratch", "/tmp\nrm -rf ~"),
        ("kuberay", "namespace", "x\n  annotations: {a: b}"),
        ("kuberay", "claim", "a}, b: {c"),
        ("kuberay", "secret", "a, optional: true"),
        ("kuberay", "image", "a\n              command: [sh]"),
        ("kuberay", "spot", "yes\n"),
        ("kuberay", "nodes_min", True),
        ("kuberay", "more", "x"),
        ("kuberay", "namespace", None),
        ("kuberay", "image", None),
    ],
)
def test_no_value_of_a_job_leaves_its_line(system, key, value):
    with pytest.raises(UserError, match=f"cluster.job.{key}"):
        checked_job(system, {key: value})


def test_what_looks_like_yaml_in_a_variable_stays_a_text():
    asked = request("cluster=kuberay")
    text = render(dataclasses.replace(asked, environment={"A": 'x"}\n- {name: B, value: "y'}))
    job = yaml.safe_load(text)
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert {"name": "A", "value": 'x"}\n- {name: B, value: "y'} in head["env"]
