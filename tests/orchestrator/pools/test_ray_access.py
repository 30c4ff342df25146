"""A Ray that we start is closed to other machines and other users, and takes our packages from us."""

from __future__ import annotations

import ipaddress
import json
import os
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from orchestrator.pools.marked import FOLDER as MARK
from orchestrator.pools.temp_folders import PREFIX

LISTENING = "0A"
"""State of a socket in ``/proc/net/tcp``."""

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A sweep of four long runs on Ray, at work, launched from a folder with packages of our names."""
    folder = tmp_path_factory.mktemp("ray")
    for name in ("trainers", "sweeps"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(f"open({str(folder / 'imported')!r}, 'w')")
    words = ["launch", "sweep=noop", "sweep.n=4", "+trainer.params.duration_s=120", "--pool", "ray"]
    words += ["cluster.num_workers=2", "cluster.batch_s=0", "--dir", str(folder / "d")]
    start = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from orchestrator.cli import main; main({words})"
    process = subprocess.Popen([sys.executable, "-P", "-c", start], cwd=folder)
    try:
        until_s = time.monotonic() + 90
        while not _runs_at_work(folder / "d"):
            assert time.monotonic() < until_s, "no run began"
            assert process.poll() is None
            time.sleep(0.2)
        yield process, folder
    finally:
        process.kill()
        process.wait()


def _runs_at_work(directory: Path) -> int:
    try:
        return json.loads((directory / "status.json").read_text())["counts"]["running"]
    except (OSError, ValueError):
        return 0


def _family(process) -> dict[str, Path]:
    """Processes of the sweep's Ray, by pid, with the folder that they belong to."""
    found = {}
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = dict(v.split(b"=", 1) for v in environ.read_bytes().split(b"\0") if b"=" in v)
            parent = _ancestors(environ.parent.name)
        except OSError:
            continue
        if MARK.encode() in variables and str(process.pid) in parent:
            found[environ.parent.name] = Path(os.fsdecode(variables[MARK.encode()]))
    return found


def _ancestors(pid: str) -> list[str]:
    found = [pid]
    while found[-1] not in ("0", "1"):
        found.append(Path(f"/proc/{found[-1]}/stat").read_text().rpartition(")")[2].split()[1])
    return found


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address of ``/proc/net/tcp``: 32-bit words in this machine's order."""
    raw = bytes.fromhex(text)
    words = b"".join(raw[i : i + 4][::-1] for i in range(0, len(raw), 4))
    found = ipaddress.ip_address(words)
    return getattr(found, "ipv4_mapped", None) or found


def test_every_process_of_it_listens_on_this_machines_loopback_only(sweep):
    process, _ = sweep
    sockets = {}
    for pid in _family(process):
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = str(fd.readlink())
            except OSError:
                continue
            sockets[target] = pid
    heard = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == LISTENING and f"socket:[{rest[5]}]" in sockets:
                heard[local] = sockets[f"socket:[{rest[5]}]"]
    assert len(heard) >= 5, "gcs, raylet, agents and workers listen somewhere"
    commands = {a: Path(f"/proc/{pid}/cmdline").read_bytes()[:80] for a, pid in heard.items()}
    open_to_all = {a: c for a, c in commands.items() if not _address(a.partition(":")[0]).is_loopback}
    assert open_to_all == {}


def test_its_files_and_sockets_lie_below_a_folder_that_nobody_else_enters(sweep):
    process, _ = sweep
    [folder] = set(_family(process).values())
    assert folder.parent == Path(tempfile.gettempdir())
    assert folder.name.startswith(PREFIX)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert any(stat.S_ISSOCK(path.stat().st_mode) for path in folder.rglob("sockets/*"))


def test_a_folder_of_our_packages_name_in_the_current_folder_replaces_nothing(sweep):
    _, folder = sweep
    assert _runs_at_work(folder / "d")
    assert not (folder / "imported").exists()
