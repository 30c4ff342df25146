from __future__ import annotations

import json
import stat

import pytest

from orchestrator.cli import main
from orchestrator.inspect.doctor import run_checks


def _by_name(checks):
    return {check.name: check for check in checks}


def test_every_part_of_the_machine_is_looked_at_and_told_as_json(tmp_path, capsys):
    status = main(["doctor", "--dir", str(tmp_path), "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert status == (0 if answer["ok"] else 1)
    checks = {check["name"]: check for check in answer["checks"]}
    assert all(set(check) == {"name", "ok", "detail", "fix", "absent"} for check in answer["checks"])
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
        assert checks[name]["detail"]
    assert checks["python"]["ok"]
    assert checks["torch loads"]["ok"]
    assert all(check["fix"] for check in checks.values() if not check["ok"])


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """What is found on a machine with much wrong at once: looking takes seconds."""
    folder = tmp_path_factory.mktemp("broken")
    (folder / "ray.py").write_text("raise ImportError('planted: libray.so is missing')\n")
    tool = folder / "nvidia-smi"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXX", "no-such-compiler")
        patch.setenv("PYTHONPATH", str(folder))
        patch.setenv("PATH", str(folder), prepend=":")
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        patch.setenv("HF_ENDPOINT", "https://127.0.0.1:9")
        return _by_name(run_checks(folder))


def test_a_missing_compiler_is_named_with_its_fix(broken):
    assert not broken["g++"].ok
    assert "apt-get install g++" in broken["g++"].fix


def test_a_broken_package_is_found_by_importing_it(broken):
    assert not broken["ray loads"].ok
    assert "planted: libray.so is missing" in broken["ray loads"].detail
    assert "pip install" in broken["ray loads"].fix
    assert broken["torch loads"].ok


def test_a_gpu_driver_without_a_torch_that_sees_it_is_reported(broken):
    assert not broken["gpus"].ok
    assert "torch" in broken["gpus"].fix


def test_no_network_is_no_failure_but_says_what_to_do(broken):
    assert broken["network"].ok
    assert broken["network"].absent
    assert "is out of reach" in broken["network"].detail
    assert "model.path=" in broken["network"].fix
