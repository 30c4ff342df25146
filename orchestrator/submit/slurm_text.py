"""What fills in ``templates/slurm.sh`` and ``templates/slurm_nodes.sh``. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from orchestrator.submit.container import container_values
from orchestrator.submit.request import Request

SITE = ("partition", "account", "qos", "constraint")
"""Keys of ``cluster.job`` that are an option of sbatch as they stand, left out where the site decides."""

VENV = "source .venv/bin/activate"
"""What makes the commands available where neither set-up lines nor a container are given."""


def slurm_values(request: Request) -> Mapping[str, Any]:
    job = request.job
    site = [f"#SBATCH --{key}={job[key]}" for key in SITE if job.get(key)]
    site += [f"#SBATCH --gpus-per-node={job['gpus_per_node']}"] if job["gpus_per_node"] else []
    site += [f"#SBATCH {option}" for option in job["sbatch"]]
    exports = [f"export {name}={shlex.quote(value)}" for name, value in request.environment.items()]
    return {
        **job,
        "name": request.name,
        "site": "".join(f"{line}\n" for line in site),
        "setup": _setup(job),
        "exports": "\n".join(exports),
        "notice_s": request.notice_s,
        "scratch": shlex.quote(job["scratch"]),
        "command": shlex.join(request.command),
        "directory": shlex.quote(request.directory),
        "grace_s": f"{request.grace_s:g}",
        **container_values(job, directory=request.directory, variables=list(request.environment)),
    }


def _setup(job: Mapping[str, Any]) -> str:
    """Lines that make the commands available; in an image they are there."""
    if job.get("setup") is not None:
        return str(job["setup"])
    return "" if (job.get("container") or {}).get("runtime") else VENV
