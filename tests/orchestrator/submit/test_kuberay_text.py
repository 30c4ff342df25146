"""A RayJob with any values: YAML that means them, fields that the operator knows, rules that Kueue has."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import yaml

from orchestrator.submit import render, submit
from orchestrator.submit.kuberay_text import kubernetes_name, quoted, rayjob_name, scalar
from sweeps.spec.errors import UserError
from tests.docker import kuberay
from tests.orchestrator.submit.test_request import request

OPTIONS = (
    {"gpus_per_node": 0},
    {"queue": "team-a"},
    {"priority": "high"},
    {"spot": False},
    {"node_selector": {"cloud.google.com/gke-accelerator": "nvidia-h100-80gb", "fast": True}},
    {"tolerations": ["dedicated=sweeps:NoSchedule", "slow"]},
)


def rendered(*words: str) -> dict:
    return yaml.safe_load(render(request("cluster=kuberay", *words)))


def workers_of(job: dict) -> dict:
    [group] = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    return group


def test_every_combination_of_options_is_what_the_operator_and_kubernetes_take():
    jsonschema = pytest.importorskip("jsonschema")
    kubernetes = pytest.importorskip("kubernetes_validate")
    plain = request("cluster=kuberay")
    for number in range(len(OPTIONS) + 1):
        for chosen in itertools.combinations(OPTIONS, number):
            more = {key: value for option in chosen for key, value in option.items()}
            job = yaml.safe_load(render(dataclasses.replace(plain, job={**plain.job, **more})))
            jsonschema.validate(job, kuberay.schema("RayJob"))
            assert kuberay.broken_rules(job) == []
            pod = workers_of(job)["template"]
            kubernetes.validate({"apiVersion": "v1", "kind": "Pod", **pod}, "1.37", strict=True)


def test_no_line_speaks_of_gpus_where_none_is_asked():
    asked = request("cluster=kuberay", "cluster.job.gpus_per_node=0", "cluster.job.spot=false")
    assert "nvidia" not in render(asked)
    group = workers_of(yaml.safe_load(render(asked)))
    assert group["groupName"] == "cpu"
    assert "tolerations" not in group["template"]["spec"]


def test_with_a_queue_of_kueue_a_job_has_the_nodes_that_it_is_admitted_with():
    job = rendered("cluster.job.queue=team-a", "cluster.job.nodes=3")
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    group = workers_of(job)
    assert [group[key] for key in ("replicas", "minReplicas", "maxReplicas")] == [3, 3, 3]
    assert job["spec"]["rayClusterSpec"]["enableInTreeAutoscaling"] is False
    assert job["spec"]["shutdownAfterJobFinishes"] is True
    assert "suspend" not in job["spec"]  # Kueue's own


def test_a_priority_is_of_the_pods_or_of_the_job_in_its_queue():
    def priorities(job):
        cluster = job["spec"]["rayClusterSpec"]
        pods = (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])
        return [pod["template"]["spec"].get("priorityClassName") for pod in pods]

    assert priorities(rendered()) == [None, None]
    assert priorities(rendered("cluster.job.priority=high")) == ["high", "high"]
    queued = rendered("cluster.job.priority=high", "cluster.job.queue=team")
    assert priorities(queued) == [None, None]
    assert queued["metadata"]["labels"]["kueue.x-k8s.io/priority-class"] == "high"


def test_workers_go_to_the_nodes_that_are_chosen_and_the_head_to_any():
    job = rendered("cluster.job.node_selector={gpu.example/type: h100, fast: true, rank: 8}")
    assert workers_of(job)["template"]["spec"]["nodeSelector"] == {
        "gpu.example/type": "h100",
        "fast": "true",
        "rank": "8",
    }
    assert "nodeSelector" not in job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]


def test_taints_are_tolerated_as_kubectl_writes_them():
    words = "cluster.job.tolerations=['dedicated=sweeps:NoSchedule', 'a.example/slow:NoExecute', any]"
    tolerations = workers_of(rendered(words, "cluster.job.spot=false"))["template"]["spec"]["tolerations"]
    assert tolerations[1:] == [
        {"key": "dedicated", "operator": "Equal", "value": "sweeps", "effect": "NoSchedule"},
        {"key": "a.example/slow", "operator": "Exists", "effect": "NoExecute"},
        {"key": "any", "operator": "Exists"},
    ]


@pytest.mark.parametrize(
    "text",
    ["true", "no", "NO", "null", "123", "1e3", "0o17", "~", "a: b", "-", "", "é\u2028😀", "a\nb", '"', "y"],
)
def test_a_text_stays_the_text_that_it_is_in_yaml(text):
    for written in (scalar(text), quoted(text)):
        assert yaml.safe_load(f"{{key: {written}}}") == {"key": text}
        assert "\n" not in written


def test_names_that_yaml_takes_for_something_else_stay_names():
    words = ("cluster.job.namespace='123'", "cluster.job.claim='true'", "+cluster.environment.NO='off'")
    job = rendered(*words)
    assert job["metadata"]["namespace"] == "123"
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    assert head["volumes"][0]["persistentVolumeClaim"]["claimName"] == "true"
    assert {"name": "NO", "value": "off"} in head["containers"][0]["env"]


def test_a_sweep_whose_name_has_no_letter_of_kubernetes_has_a_name_all_the_same():
    assert kubernetes_name(dataclasses.replace(request("cluster=kuberay"), name="日本")) == "sweep"


def test_sweeps_of_one_name_in_two_directories_have_two_jobs():
    asked = request("cluster=kuberay")
    other = dataclasses.replace(asked, directory="elsewhere")
    assert rayjob_name(asked) != rayjob_name(other)
    assert yaml.safe_load(render(asked))["metadata"]["name"] == rayjob_name(asked)
    long = rayjob_name(dataclasses.replace(asked, name="x" * 99))
    assert len(long) <= 47


def test_a_launch_after_its_job_has_ended_begins_a_job_anew(tmp_path, monkeypatch):
    fake = tmp_path / "kubectl"
    fake.write_text('#!/bin/sh\necho "$*" > "$0.called"; /bin/cat > /dev/null; echo replaced\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    asked = request("cluster=kuberay")
    _, note = submit(asked)
    assert note.job == f"emsweep/{rayjob_name(asked)}"
    assert (tmp_path / "kubectl.called").read_text().split()[:2] == ["replace", "--force"]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("cluster.job.node_selector={-a: c}", "cluster.job.node_selector='-a'"),
        ("cluster.job.node_selector={a: 'b}, c'}", "cluster.job.node_selector.a="),
        ("cluster.job.node_selector=gpu", "must be a map of texts"),
        ("cluster.job.tolerations=gpu", "must be a list of texts"),
        ("cluster.job.tolerations=['a=b:Never']", "would not stay within its line"),
        ("cluster.job.queue='Team A'", "cluster.job.queue='Team A'"),
    ],
)
def test_a_value_that_would_leave_its_line_is_refused(word, message):
    with pytest.raises(UserError, match=message):
        request("cluster=kuberay", word)
