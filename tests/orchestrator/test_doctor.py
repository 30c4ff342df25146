from __future__ import annotations

import stat

from orchestrator.doctor import run_checks


def _by_name(checks):
    return {check.name: check for check in checks}


def test_every_part_of_the_machine_is_looked_at(tmp_path):
    checks = _by_name(run_checks(tmp_path))
    needed = (
        "python",
        "torch",
        "deepspeed",
        "ray",
        "disk",
        "gpus",
        "network",
        "g++",
        "torch loads",
        "ray loads",
    )
    for name in needed:
        assert checks[name].detail
    assert checks["python"].ok
    assert checks["torch loads"].ok
    assert all(check.fix for check in checks.values() if not check.ok)


def test_a_missing_compiler_is_named_with_its_fix(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    check = _by_name(run_checks(tmp_path))["g++"]
    assert not check.ok
    assert "apt-get install g++" in check.fix


def test_a_broken_package_is_found_by_importing_it(tmp_path, monkeypatch):
    (tmp_path / "ray.py").write_text("raise ImportError('planted: libray.so is missing')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    check = _by_name(run_checks(tmp_path))["ray loads"]
    assert not check.ok
    assert "planted: libray.so is missing" in check.detail
    assert "pip install" in check.fix


def test_a_gpu_driver_without_a_torch_that_sees_it_is_reported(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    check = _by_name(run_checks(tmp_path))["gpus"]
    assert not check.ok
    assert "torch" in check.fix


def test_no_network_is_no_failure_but_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "https://127.0.0.1:9")
    check = _by_name(run_checks(tmp_path))["network"]
    assert check.ok
    assert "model.path=" in check.fix
