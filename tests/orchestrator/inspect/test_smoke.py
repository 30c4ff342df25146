"""``emsweep doctor --smoke``: an installation proves itself, or says what does not work."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.inspect.smoke import smoke_checks


@pytest.mark.slow
def test_a_working_installation_launches_verifies_and_tabulates_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("EMSWEEP_ALLOW_TARGETS", "whatever_a_user_set")
    checks = smoke_checks()
    assert [(check.name, check.ok) for check in checks] == [
        ("smoke launch", True),
        ("smoke verify", True),
        ("smoke table", True),
    ], checks
    assert list(tmp_path.glob("emsweep-smoke-*")) == []


@pytest.mark.slow
def test_a_broken_package_fails_the_launch_with_its_reason_and_nothing_further_is_tried(
    tmp_path, monkeypatch
):
    (tmp_path / "deepspeed.py").write_text("raise ImportError('planted: no such kernel')\n")
    root = Path(__file__).parents[3]
    folders = [tmp_path, root, root / "orchestrator" / "hydra_launcher" / "plugin"]
    monkeypatch.setenv("PYTHONPATH", ":".join(map(str, folders)))
    [check] = smoke_checks()
    assert (check.name, check.ok) == ("smoke launch", False)
    assert check.detail
    assert "emsweep launch" in check.fix
