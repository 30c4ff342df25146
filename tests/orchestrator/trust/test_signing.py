"""Signatures by which this user knows what his own runs wrote."""

from __future__ import annotations

import subprocess
import sys

import pytest

from orchestrator.trust.signing import is_ours, sign


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config"


def test_only_the_same_bytes_of_the_same_name_by_the_same_user_are_ours(home, monkeypatch, tmp_path):
    signature = sign("run", b"data")
    assert is_ours("run", b"data", signature)
    assert not is_ours("run", b"datA", signature)
    assert not is_ours("other", b"data", signature)
    assert not any(is_ours("run", b"data", wrong) for wrong in ("", None, 1, signature[:-1], [signature]))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "another user's"))
    assert not is_ours("run", b"data", signature)


def test_nobody_else_can_read_the_key(home):
    sign("run", b"data")
    assert (home / "emsweep" / "key").stat().st_mode & 0o777 == 0o600
    assert (home / "emsweep").stat().st_mode & 0o077 == 0


def test_an_empty_or_cut_key_signs_nothing(home):
    sign("run", b"data")
    (home / "emsweep" / "key").write_bytes(b"")
    assert sign("run", b"data") == ""
    assert not is_ours("run", b"data", "")


def test_processes_that_start_at_once_use_one_key(home):
    script = "from orchestrator.trust.signing import sign; print(sign('run', b'data'))"
    starting = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) for _ in range(4)]
    signatures = {process.communicate()[0].decode().strip() for process in starting}
    assert len(signatures) == 1
    assert is_ours("run", b"data", signatures.pop())
    assert [path.name for path in (home / "emsweep").iterdir()] == ["key"]
