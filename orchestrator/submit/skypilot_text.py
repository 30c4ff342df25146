"""A task of SkyPilot: the nodes to ask for, and ``templates/skypilot.sh`` as what each of them runs. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any

import yaml

from orchestrator.submit.kuberay_text import kubernetes_name
from orchestrator.submit.request import Request

RAY_PORT = 6379
"""Port of the sweep's Ray; SkyPilot's own has 6380."""

VENV = "$HOME/emsweep-venv"
"""Where set-up lines of ours install emsweep, and what a node takes it from where it is there."""

BUCKET = "~/emsweep-bucket"
"""Where the bucket is mounted."""

KEEP_S = 60
"""Seconds between two copies into the bucket: what a lost node costs at most beside its runs in progress."""

HEAD = """\
# A sweep as a managed job of SkyPilot. Submit it with a secret that its nodes share:
#   RAY_AUTH_TOKEN=$(openssl rand -hex 32) sky jobs launch --secret RAY_AUTH_TOKEN task.yaml
"""


def task_text(request: Request, fill: Callable[[str, Mapping[str, Any]], str]) -> str:
    """The task as YAML.

    Args:
        request: what is asked.
        fill: puts values into the template of a name.
    """
    task = _task(request) | {"run": fill("skypilot.sh", _values(request))}
    return HEAD + yaml.dump(task, Dumper=_Blocks, sort_keys=False, allow_unicode=True, width=10_000)


def _task(request: Request) -> dict[str, Any]:
    job = request.job
    resources: dict[str, Any] = {"cpus": f"{job['cpus_per_node']}+", "memory": f"{job['memory_gib']}+"}
    if job["gpus_per_node"]:
        resources["accelerators"] = f"{job['gpu']}:{job['gpus_per_node']}"
    resources |= {"use_spot": True} if job["spot"] else {}
    resources |= {"infra": job["infra"]} if job["infra"] else {}
    if job["image"]:
        resources["image_id"] = f"docker:{job['image'].removeprefix('docker:')}"
    mounts = {BUCKET: {"source": job["bucket"], "mode": "MOUNT"}} if job["bucket"] else {}
    setup = _setup(job)
    return {
        "name": f"emsweep-{kubernetes_name(request)}",
        "resources": resources,
        "num_nodes": job["nodes"],
        "workdir": ".",
        **({"file_mounts": mounts} if mounts else {}),
        "envs": dict(request.environment),
        "secrets": {"RAY_AUTH_TOKEN": None},
        **({"setup": setup} if setup else {}),
    }


def _setup(job: Mapping[str, Any]) -> str:
    """Lines that make the commands available; in an image they are there."""
    if job.get("setup") is not None:
        return str(job["setup"])
    if job["image"]:
        return ""
    return (
        f'uv venv --python 3.12 --allow-existing "{VENV}"\n'
        f'uv pip install --python "{VENV}/bin/python" emsweep=={metadata.version("emsweep")}\n'
    )


def _values(request: Request) -> Mapping[str, Any]:
    job = request.job
    directory = shlex.quote(request.directory)
    mark = shlex.quote(f"{job['scratch']}/emsweep/{kubernetes_name(request)}.here")
    restore = f"""
# The bucket keeps a copy of the sweep directory, with which a node that takes another's place begins: half a
# line at the end of a file that was copied while it grew is skipped, and the index is made anew.
dir={directory}
kept={BUCKET}/{kubernetes_name(request)}
mkdir -p "$dir" "$kept"
if [[ ! -e {mark} ]]; then
  cp -r "$kept/." "$dir/"
  rm -f "$dir"/state.sqlite*
  touch {mark}
fi
(while sleep {KEEP_S}; do cp -ru "$dir/." "$kept/" || true; done) &
keeper=$!
trap 'kill "$ray_head" "$keeper" 2>/dev/null || true' EXIT
"""
    return {
        "port": RAY_PORT,
        "gpus_per_node": job["gpus_per_node"],
        "scratch": shlex.quote(job["scratch"]),
        "venv": "" if job["image"] else f'if [[ -d {VENV} ]]; then PATH="{VENV}/bin:$PATH"; fi',
        "command": shlex.join(_command(request)),
        "restore": restore if job["bucket"] else "",
        "keep": 'kill "$keeper" 2>/dev/null || true\ncp -ru "$dir/." "$kept/"' if job["bucket"] else "",
    }


def _command(request: Request) -> list[str]:
    """The launch inside. Nodes share no folder: results stay on theirs until the driver fetches them."""
    if any(word.startswith("cluster.node_spools=") for word in request.command):
        return list(request.command)
    launch, rest = request.command[:2], request.command[2:]
    return [*launch, f"cluster.node_spools={request.job['scratch']}/emsweep/spools", *rest]


class _Blocks(yaml.SafeDumper):
    """Writes texts of several lines as such."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Blocks.add_representer(str, _text)
