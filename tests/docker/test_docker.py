"""What can be held against rules without an engine: images, compose file, manifests, scripts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
BIN = Path(sys.executable).parent
IMAGES = [DOCKER / "Dockerfile", DOCKER / "Dockerfile.cpu"]
SCRIPTS = [*sorted(DOCKER.glob("*.sh")), DOCKER / "slurm" / "emsweep.sbatch"]
DRY_RUN = ("launch", "sweep=paper", "--dry-run")


def instructions(path: Path) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile, continued lines joined."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [tuple(line.split(" ", 1)) for line in joined.splitlines() if line]  # type: ignore[misc]


@pytest.mark.parametrize("path", IMAGES, ids=lambda p: p.name)
def test_an_image_keeps_the_rules(path):
    steps = instructions(path)
    names = [name for name, _ in steps]
    runs = [text for name, text in steps if name == "RUN"]
    [base] = [text for name, text in steps if name == "FROM"]
    assert ":" in base
    assert not base.endswith(":latest")
    assert [text for name, text in steps if name == "USER"][-1] == "1000"
    assert "HEALTHCHECK" in names
    assert "ADD" not in names
    assert names.index("USER") < min(i for i, (_, text) in enumerate(steps) if "pip install" in text)
    for text in runs:
        assert "sudo" not in text
        if "apt-get install" in text:
            assert "--no-install-recommends" in text
            assert "rm -rf /var/lib/apt/lists/*" in text
        for install in re.findall(r"pip install [^&]*", text):
            assert "--no-cache-dir" in install
            assert "--constraint" in install or "--no-deps" in install or "pip==" in install
    for name, text in steps:
        assert not (name in ("ENV", "ARG") and re.search(r"(KEY|TOKEN|PASSWORD)=\S", text)), text


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.name)
def test_a_script_is_valid_bash_and_stops_at_the_first_error(path):
    subprocess.run(["bash", "-n", str(path)], check=True)
    assert "set -euo pipefail" in path.read_text()


def entrypoint(*words: str, tools: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{tools}:{BIN}:{os.environ['PATH']}"
    return subprocess.run(
        [DOCKER / "entrypoint.sh", *words],
        env={"PATH": path, "HOME": os.environ["HOME"], **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def tool(folder: Path, name: str, text: str) -> None:
    """Put a command of ours on the path."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(0o755)


def test_a_container_runs_commands_of_emsweep(tmp_path):
    done = entrypoint("plan", "sweep=noop", "sweep.n=3", tools=tmp_path)
    assert done.returncode == 0
    assert "3 runs" in done.stdout


def test_a_node_starts_with_its_secret_only(tmp_path):
    tool(tmp_path / "bin", "ray", 'echo "$@ mode=$RAY_AUTH_MODE"')
    missing = entrypoint("head", tools=tmp_path / "bin", RAY_AUTH_TOKEN_PATH=str(tmp_path / "none"))
    assert missing.returncode == 2
    assert "no secret" in missing.stderr
    (tmp_path / "token").write_text("secret")
    given = {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}
    head = entrypoint("head", "--num-cpus=0", tools=tmp_path / "bin", **given)
    assert "--head" in head.stdout
    assert "--include-dashboard=false" in head.stdout
    assert "--num-cpus=0 mode=token" in head.stdout
    worker = entrypoint("worker", tools=tmp_path / "bin", HEAD="head:6379", **given)
    assert "--address=head:6379" in worker.stdout
    assert entrypoint("worker", tools=tmp_path / "bin", **given).returncode != 0


def test_compose_shows_nothing_to_the_network_and_holds_no_secret():
    document = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    for name, service in document["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        assert "privileged" not in service
        assert service["cap_drop"] == ["ALL"]
        for key, value in service.get("environment", {}).items():
            assert value is None or not re.search("KEY|TOKEN$", key), key
        known = {*document["services"]}
        assert set(service.get("depends_on", ())) <= known
        assert set(service.get("secrets", ())) <= set(document["secrets"])
        for volume in service["volumes"]:
            assert volume.split(":")[0] in document["volumes"]
        assert (DOCKER.parent / "docker" / service["build"]["context"]).resolve() == ROOT
        assert (ROOT / service["build"]["dockerfile"]).is_file()


def documents(name: str) -> list[dict]:
    return list(yaml.safe_load_all((DOCKER / "kuberay" / name).read_text()))


def test_manifests_agree_with_each_other():
    [job], [cluster] = documents("rayjob.yaml"), documents("raycluster.yaml")
    namespace, claim, policy = documents("base.yaml")
    assert job["spec"]["rayClusterSpec"] == cluster["spec"]
    assert {d["metadata"]["namespace"] for d in (job, cluster, claim, policy)} == {
        namespace["metadata"]["name"]
    }
    assert policy["spec"]["podSelector"] == {}
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    assert all(rule["from"] for rule in policy["spec"]["ingress"])
    pods = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    for pod in (group["template"]["spec"] for group in pods):
        assert pod["securityContext"]["runAsNonRoot"] is True
        claims = [
            v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if "persistentVolumeClaim" in v
        ]
        assert claims == [claim["metadata"]["name"]]
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            mounted = {m["name"] for m in container["volumeMounts"]}
            assert mounted == {v["name"] for v in pod["volumes"]}
            assert set(container["resources"]) == {"requests", "limits"}


def test_ray_on_kubernetes_asks_for_a_token_and_has_no_public_address():
    [cluster] = documents("raycluster.yaml")
    assert cluster["spec"]["authOptions"] == {"mode": "token"}
    assert cluster["spec"]["enableInTreeAutoscaling"] is True
    assert cluster["spec"]["headGroupSpec"]["serviceType"] == "ClusterIP"
    text = (DOCKER / "kuberay" / "raycluster.yaml").read_text()
    assert not re.search("LoadBalancer|NodePort|Ingress|hostNetwork|hostPort", text)
    for group in (cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]):
        for container in group["template"]["spec"]["containers"]:
            for variable in container["env"]:
                if re.search("TOKEN|KEY", variable["name"]):
                    assert set(variable["valueFrom"]) == {"secretKeyRef"}


@pytest.mark.parametrize(
    ("system", "file"), [("slurm", "slurm/emsweep.sbatch"), ("kuberay", "kuberay/rayjob.yaml")]
)
def test_the_files_here_are_what_a_dry_run_prints(system, file):
    done = subprocess.run(
        [BIN / "emsweep", *DRY_RUN, f"cluster={system}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == (DOCKER / file).read_text()
