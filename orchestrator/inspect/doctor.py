"""Look at the machine: is everything here that a sweep needs, and if not, what mends it.

Versions come from package metadata, which costs milliseconds. What can only be seen by importing (does torch
find the GPUs, does DeepSpeed load, does Ray start) runs in separate processes, side by side and bounded in
time.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

DISTRIBUTION = "emsweep"
"""Name under which this program is installed."""

MIN_FREE_GIB = 1.0
"""Free disk below which a sweep of ten thousand runs (about 0.1 GiB, before checkpoints) is at risk."""

MIN_SHM_GIB = 0.25
"""Shared memory that Ray's object store is given at least."""

PROBE_TIMEOUT_S = 120.0
"""Longest import; DeepSpeed's first one takes about 10 s on a slow disk."""

NETWORK_TIMEOUT_S = 3.0
"""Longest wait for the model hub to answer."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing looked at."""

    name: str
    """What was looked at."""
    ok: bool
    """Whether sweeps can run as it is."""
    detail: str
    """What was found."""
    fix: str = ""
    """What to do about it; empty where nothing needs doing."""
    absent: bool = False
    """Whether it is not here, though sweeps can run without it."""


def run_checks(directory: Path) -> list[Check]:
    """Look at everything.

    Args:
        directory: where sweeps will be written; its disk is the one checked.
    """
    with ThreadPoolExecutor(max_workers=4) as pool:
        probes = [pool.submit(probe) for probe in (_torch, _deepspeed, _ray, _network)]
        quick = [_python(), *_requirements(), _compiler(), _disk(directory), _shared_memory(), _memory()]
        found = [probe.result() for probe in probes]
    return [*quick, *(check for checks in found for check in checks)]


def _python() -> Check:
    return Check(
        name="python",
        ok=sys.version_info >= (3, 11),
        detail=f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        fix="" if sys.version_info >= (3, 11) else "install Python 3.11 or newer",
    )


def _requirements() -> Iterator[Check]:
    """Each declared dependency is installed in a version that the metadata allows."""
    from packaging.requirements import Requirement

    for text in importlib.metadata.requires(DISTRIBUTION) or ():
        need = Requirement(text)
        extra = next(
            (e for e in ("figures", "mirror") if need.marker and need.marker.evaluate({"extra": e})), None
        )
        if need.marker and extra is None and not need.marker.evaluate({"extra": ""}):
            continue
        if need.marker and need.marker.evaluate({"extra": ""}):
            extra = None
        yield _requirement(need.name, need.specifier, extra)


def _requirement(name: str, specifier: SpecifierSet, extra: str | None) -> Check:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        if extra:
            return Check(
                name=name,
                ok=True,
                absent=True,
                detail=f"not installed; only the extra {extra!r} needs it",
                fix=f"pip install '{DISTRIBUTION}[{extra}]'",
            )
        return Check(name=name, ok=False, detail="not installed", fix=f"pip install '{name}{specifier}'")
    fits = specifier.contains(version, prereleases=True)
    fix = "" if fits else f"pip install '{name}{specifier}'"
    return Check(
        name=name, ok=fits, detail=version if fits else f"{version}, but {specifier} is needed", fix=fix
    )


def _compiler() -> Check:
    path = shutil.which(os.environ.get("CXX", "g++"))
    return Check(
        name="g++",
        ok=path is not None,
        detail=path or "no C++ compiler found",
        fix=""
        if path
        else "install one (Debian: apt-get install g++), or set CXX; DeepSpeed builds its kernels with it",
    )


def _disk(directory: Path) -> Check:
    place = directory.absolute()
    while not place.exists():
        place = place.parent
    free_gib = shutil.disk_usage(place).free / 2**30
    writable = os.access(place, os.W_OK)
    detail = f"{free_gib:.1f} GiB free at {place}" + ("" if writable else ", not writable")
    ok = writable and free_gib >= MIN_FREE_GIB
    return Check(
        name="disk",
        ok=ok,
        detail=detail,
        fix="" if ok else "free some space, or choose another disk with --dir",
    )


def _shared_memory() -> Check:
    place = Path("/dev/shm")
    if not place.exists():
        return Check(name="shared memory", ok=True, detail="no /dev/shm; Ray uses its temporary folder")
    free_gib = shutil.disk_usage(place).free / 2**30
    ok = free_gib >= MIN_SHM_GIB
    fix = "" if ok else "enlarge /dev/shm (containers: --shm-size=2g)"
    return Check(name="shared memory", ok=ok, detail=f"{free_gib:.1f} GiB free", fix=fix)


def _memory() -> Check:
    import psutil

    memory = psutil.virtual_memory()
    ok = memory.available >= 2**30
    sizes = f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB available"
    fix = "" if ok else "free memory: a worker needs about 0.5 GiB"
    return Check(name="memory", ok=ok, detail=f"{sizes}, {os.cpu_count()} cores", fix=fix)


def _torch() -> list[Check]:
    code = (
        "import json, torch; n = torch.cuda.device_count(); "
        "g = [torch.cuda.get_device_properties(i) for i in range(n)]; "
        "g = [[p.name, p.total_memory / 2**30] for p in g]; "
        "print(json.dumps({'cuda': torch.version.cuda, 'gpus': g}))"
    )
    status, output = _probe(code)
    if status is None:
        fix = "reinstall it: pip install --force-reinstall torch"
        return [Check(name="torch loads", ok=False, detail=output, fix=fix)]
    gpus = status["gpus"]
    driver = shutil.which("nvidia-smi") is not None
    if gpus:
        listed = ", ".join(f"{name} ({gib:.0f} GiB)" for name, gib in gpus)
        gpu = Check(name="gpus", ok=True, detail=f"{len(gpus)}: {listed}")
    elif driver:
        build = f"built for CUDA {status['cuda']}" if status["cuda"] else "built for CPU only"
        fix = "install a torch built for the driver's CUDA version (pytorch.org/get-started)"
        gpu = Check(
            name="gpus", ok=False, detail=f"nvidia-smi is here, but torch ({build}) sees no GPU", fix=fix
        )
    else:
        gpu = Check(name="gpus", ok=True, absent=True, detail="none; the tiny models need none")
    return [Check(name="torch loads", ok=True, detail=f"CUDA {status['cuda'] or 'not built in'}"), gpu]


def _deepspeed() -> list[Check]:
    status, output = _probe("import json, deepspeed; print(json.dumps({'version': deepspeed.__version__}))")
    fix = "" if status else "reinstall it: pip install --force-reinstall --no-build-isolation deepspeed"
    return [
        Check(
            name="deepspeed loads",
            ok=status is not None,
            detail=status["version"] if status else output,
            fix=fix,
        )
    ]


def _ray() -> list[Check]:
    status, output = _probe("import json, ray; print(json.dumps({'version': ray.__version__}))")
    address = os.environ.get("RAY_ADDRESS")
    where = f"; RAY_ADDRESS={address}" if address else "; launch starts its own"
    fix = "" if status else "reinstall it: pip install --force-reinstall ray"
    detail = status["version"] + where if status else output
    return [Check(name="ray loads", ok=status is not None, detail=detail, fix=fix)]


def _probe(code: str) -> tuple[dict | None, str]:
    """Run Python code that prints JSON last; return it, or ``None`` and the last line of what went wrong."""
    env = os.environ | {"PYTHONWARNINGS": "ignore"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, env=env
        )
    except subprocess.TimeoutExpired:
        return None, f"did not load within {PROBE_TIMEOUT_S:.0f} s"
    lines = done.stdout.strip().splitlines()
    if done.returncode == 0 and lines:
        return json.loads(lines[-1]), ""
    errors = done.stderr.strip().splitlines()
    return None, errors[-1] if errors else f"ended with status {done.returncode}"


def _network() -> list[Check]:
    address = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    host, port = address.hostname or "huggingface.co", address.port or 443
    try:
        socket.create_connection((host, port), timeout=NETWORK_TIMEOUT_S).close()
    except OSError as error:
        fix = (
            "for hub models give a local copy: model=hf model.path=FOLDER (the shipped tiny models need none)"
        )
        detail = f"{host} is out of reach ({error}); models that lie here need none"
        return [Check(name="network", ok=True, absent=True, detail=detail, fix=fix)]
    return [Check(name="network", ok=True, detail=f"{host} answers")]
