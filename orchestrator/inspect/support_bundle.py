"""A support bundle: what somebody else needs to see why a sweep misbehaves, and none of its secrets.

A ZIP file with ``doctor.json``, ``packages.txt``, ``environment.json`` (names of variables; values of a few
harmless ones) and, of a sweep directory, ``sweep.yaml``, ``status.json``, what happened without the results
(``log.jsonl``), tracebacks and the ends of the workers' logs. No weights, no results, no rollouts. Everything
written passes through :func:`redact`.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from orchestrator.inspect.doctor import Check
from orchestrator.inspect.log import records
from orchestrator.store.layout import Layout

SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL|AUTH|COOKIE|NETRC", re.IGNORECASE)
"""Names of variables whose values are secrets."""

MIN_SECRET = 6
"""Shortest value that is taken for a secret: shorter ones, such as ``1`` or ``token``, are switches."""

SHOWN = re.compile(r"(CUDA|NCCL|OMP|RAY|SLURM|TORCH|HF|GLOO|EMSWEEP|PYTHON)_\w+|PATH|LANG|VIRTUAL_ENV")
"""Variables whose values tell something, unless their name is a secret's."""

PATTERNS = (
    re.compile(r"\b(hf|sk|ghp|gho|glpat|xox[abp])[-_][A-Za-z0-9_-]{10,}"),
    re.compile(r"\b[0-9a-f]{40}\b|\b[0-9a-f]{64}\b"),
    re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{16}\b"),
    re.compile(r"(?i)\bbearer\s+[\w.~+/=-]+"),
    re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"),
)
"""What secrets look like: access tokens, keys in hexadecimal, credentials in addresses."""

ASSIGNED = re.compile(r"""(?i)(?<=[\w-])((?:key|token|secret|password)["']?\s*[:=]\s*["']?)[^\s"',}\[]{6,}""")
"""A name that ends like a secret's, then its value."""

HIDDEN = "[hidden]"

TAIL_BYTES = 64 * 1024
"""Bytes of the end of a worker's log."""

MAX_LOGS = 50
"""Logs of workers and tracebacks taken, the newest of each."""


def redact(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """The text without this process's secrets and whatever looks like one."""
    secrets = {v for k, v in environment.items() if SECRET_NAME.search(k) and len(v) >= MIN_SECRET}
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    for pattern in PATTERNS:
        text = pattern.sub(HIDDEN, text)
    return ASSIGNED.sub(rf"\1{HIDDEN}", text)


def write_bundle(
    path: Path, directory: Path, checks: Sequence[Check], environment: Mapping[str, str] = os.environ
) -> list[str]:
    """Write the bundle and return the names in it.

    Args:
        path: the ZIP file, replaced if it is there.
        directory: a sweep directory, or where sweeps will be written.
        checks: what the doctor found.
        environment: variables of this process.
    """
    names = []
    with zipfile.ZipFile(path, "w", compression=zipfile.ZIP_DEFLATED) as bundle:
        for name, text in _parts(directory, checks, environment):
            bundle.writestr(name, redact(text, environment))
            names.append(name)
    return names


def _parts(
    directory: Path, checks: Sequence[Check], environment: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    yield "doctor.json", json.dumps([dataclasses.asdict(check) for check in checks], indent=1)
    packages = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
    yield "packages.txt", "".join(f"{name}=={packages[name]}\n" for name in sorted(packages, key=str.lower))
    telling = {k for k in environment if SHOWN.fullmatch(k) and not SECRET_NAME.search(k)}
    variables = {k: v if k in telling else HIDDEN for k, v in sorted(environment.items())}
    yield "environment.json", json.dumps(variables, indent=1)
    layout = Layout(directory)
    if not layout.config.exists():
        return
    for file in (layout.config, layout.status):
        if file.exists():
            yield file.name, file.read_text(errors="replace")
    told = [record for record in records(layout) if record["event"] != "result"]
    yield "log.jsonl", "".join(json.dumps(record) + "\n" for record in told)
    workers = sorted(layout.worker_logs.glob("*.log"), key=lambda p: p.stat().st_mtime)
    tracebacks = sorted(directory.glob("logs/*/attempt_*.log"), key=lambda p: p.stat().st_mtime)
    for file in (*workers[-MAX_LOGS:], *tracebacks[-MAX_LOGS:]):
        yield str(file.relative_to(directory)), _tail(file)


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        return file.read().decode(errors="replace")
