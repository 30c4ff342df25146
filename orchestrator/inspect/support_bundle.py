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
from sweeps.spec.redaction import HIDDEN, SECRET_NAME, redact

SHOWN = re.compile(r"(CUDA|NCCL|OMP|RAY|SLURM|TORCH|HF|GLOO|EMSWEEP|PYTHON)_\w+|PATH|LANG|VIRTUAL_ENV")
"""Variables whose values tell something, unless their name is a secret's."""

TAIL_BYTES = 64 * 1024
"""Bytes of the end of a worker's log."""

MAX_LOGS = 50
"""Logs of workers and tracebacks taken, the newest of each."""


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
        if _is_inside(file, directory):
            yield file.name, file.read_text(errors="replace")
    told = [record for record in records(layout) if record["event"] != "result"]
    yield "log.jsonl", "".join(json.dumps(record) + "\n" for record in told)
    workers, tracebacks = (
        sorted((p for p in directory.glob(at) if _is_inside(p, directory)), key=lambda p: p.stat().st_mtime)
        for at in ("logs/workers/*.log", "logs/*/attempt_*.log")
    )
    for file in (*workers[-MAX_LOGS:], *tracebacks[-MAX_LOGS:]):
        yield str(file.relative_to(directory)), _tail(file)


def _is_inside(path: Path, directory: Path) -> bool:
    """Whether a path is a file of the sweep itself, with no link on the way out of it."""
    return path.is_file() and path.resolve().is_relative_to(directory.resolve())


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        return file.read().decode(errors="replace")
