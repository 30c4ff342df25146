"""Images, manifests and scripts against what others publish: schemas and linters, as packages bring them."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.docker import kuberay
from tests.docker.test_docker import DOCKER, IMAGES, ROOT, SCRIPTS, documents
from tests.orchestrator.submit.test_request import request

BIN = Path(sys.executable).parent
KUBERNETES = ("1.29", "1.37")
"""The oldest and the newest version that manifests are held against."""


def run_tool(name: str, *words: str | Path) -> None:
    """Let a linter of the `dev` packages speak; it must have nothing to say."""
    tool = shutil.which(name, path=str(BIN)) or pytest.skip(f"{name} is not installed: pip install '.[dev]'")
    done = subprocess.run([tool, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", IMAGES, ids=lambda p: p.name)
def test_hadolint_has_nothing_to_say(path):
    run_tool("hadolint", path)


def test_shellcheck_has_nothing_to_say():
    run_tool("shellcheck", *SCRIPTS, ROOT / ".ci" / "run")


def test_shellcheck_has_nothing_to_say_of_a_job_with_options(tmp_path):
    from orchestrator.submit import render, render_nodes

    words = (
        "cluster.job.partition=gpu",
        "+cluster.environment.NOTE='a \"b\" c'",
        "trainer.params.x='y z'",
    )
    (tmp_path / "job.sh").write_text(render(request("cluster=slurm", *words)))
    run_tool("shellcheck", tmp_path / "job.sh")
    elastic = request("cluster=slurm", "cluster.job.elastic=true", *words)
    for name, text in (("driver.sh", render(elastic)), ("nodes.sh", render_nodes(elastic))):
        (tmp_path / name).write_text(text)
        run_tool("shellcheck", tmp_path / name)


def test_the_compose_file_keeps_the_compose_specification():
    run_tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", DOCKER / "compose.yaml")


def rendered(*words: str) -> dict:
    from orchestrator.submit import render

    return yaml.safe_load(render(request("cluster=kuberay", *words)))


def resources_of_ray() -> list[dict]:
    """Every manifest of ours for the operator: as shipped, and rendered with options."""
    [job], [cluster] = documents("rayjob.yaml"), documents("raycluster.yaml")
    return [
        job,
        cluster,
        rendered("cluster.job.nodes_min=2", "cluster.job.spot=false", "cluster.environment={}"),
    ]


def check_kubernetes(document: dict, version: str) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    validate.validate(document, version, strict=True)


@pytest.mark.parametrize("version", KUBERNETES)
def test_manifests_keep_the_schemas_of_kubernetes(version):
    for document in documents("base.yaml"):
        check_kubernetes(document, version)
    for document in resources_of_ray():
        cluster = document["spec"].get("rayClusterSpec", document["spec"])
        for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
            check_kubernetes({"apiVersion": "v1", "kind": "Pod", **group["template"]}, version)
        beside = {"name": "autoscaler", "image": "i", "resources": cluster["autoscalerOptions"]["resources"]}
        check_kubernetes({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [beside]}}, version)


def test_the_schemas_of_kubernetes_catch_a_wrong_word():
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    [cluster] = documents("raycluster.yaml")
    pod = {"apiVersion": "v1", "kind": "Pod", **copy.deepcopy(cluster["spec"]["headGroupSpec"]["template"])}
    pod["spec"]["containers"][0]["volumeMount"] = pod["spec"]["containers"][0].pop("volumeMounts")
    with pytest.raises(validate.ValidationError, match="volumeMount"):
        validate.validate(pod, KUBERNETES[-1], strict=True)


def test_resources_of_ray_are_what_the_operator_takes():
    jsonschema = pytest.importorskip("jsonschema")
    for document in resources_of_ray():
        jsonschema.validate(document, kuberay.schema(document["kind"]))
        assert kuberay.broken_rules(document) == []


@pytest.mark.parametrize(
    "name", ["My_Sweep.v2", "2024-grid", "a" * 60, "long-enough-to-be-cut-right-behind-one-of-its-hyphens"]
)
def test_any_sweep_name_makes_a_name_that_the_operator_takes(name):
    document = rendered(f"sweep.name={name!r}")
    assert kuberay.broken_rules(document) == []


def test_manifests_name_the_version_of_ray_that_images_hold():
    [pinned] = re.findall(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    for document in resources_of_ray():
        assert document["spec"].get("rayClusterSpec", document["spec"])["rayVersion"] == pinned
