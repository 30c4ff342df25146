"""What an installation holds."""

from __future__ import annotations

import importlib
import importlib.metadata
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import sweeps


def test_the_package_named_sweeps_is_ours():
    # An extra of wandb installs another package of this name.
    assert Path(sweeps.__file__).with_name("spec").joinpath("run_spec.py").is_file()
    owners = importlib.metadata.packages_distributions().get("sweeps", ["emsweep"])
    assert owners == ["emsweep"]


def test_configuration_and_tiny_models_are_package_data():
    root = Path(sweeps.__file__).parents[1]
    assert (root / "sweeps/conf/sweep/quickstart.yaml").is_file()
    for name in ("tiny-32", "tiny-64", "tiny-96", "tiny-192", "tiny-64-careful", "tiny-64-hasty"):
        assert (root / "trainers/tiny/models" / name / "model.safetensors").is_file()


def test_the_console_script_names_the_command_line():
    [script] = [e for e in importlib.metadata.entry_points(group="console_scripts") if e.name == "emsweep"]
    module, _, function = script.value.partition(":")
    assert callable(getattr(importlib.import_module(module), function))
    written = tomllib.loads((Path(sweeps.__file__).parents[1] / "pyproject.toml").read_text())
    assert written["project"]["scripts"] == {"emsweep": "emsweep.__main__:main"}


def test_a_wheel_holds_every_room_with_its_data_and_puts_the_launcher_where_hydra_looks(tmp_path):
    root = Path(sweeps.__file__).parents[1]
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=root, check=True, capture_output=True, timeout=120)
    [wheel] = tmp_path.glob("*.whl")
    files = zipfile.ZipFile(wheel).namelist()
    assert {"hydra_plugins/emsweep_launcher.py", "emsweep/__init__.py", "emsweep/py.typed"} <= set(files)
    assert "orchestrator/hydra_launcher/multirun.py" in files
    assert not [f for f in files if "hydra_launcher/plugin" in f]
    ours = [
        p for name in ("sweeps", "trainers", "orchestrator", "analysis") for p in (root / name).rglob("*")
    ]
    expected = {p.relative_to(root).as_posix() for p in ours if p.is_file() and "__pycache__" not in p.parts}
    assert {f for f in expected if "hydra_launcher/plugin" not in f} - set(files) == set()
    assert {f.split("/")[0] for f in files if not f.startswith("emsweep-")} == {
        *("sweeps", "trainers", "orchestrator", "analysis", "hydra_plugins", "emsweep"),
    }


def test_hydra_finds_the_launcher_in_this_installation():
    from hydra.core.plugins import Plugins
    from hydra.plugins.launcher import Launcher

    assert "EmsweepLauncher" in {c.__name__ for c in Plugins.instance().discover(Launcher)}
