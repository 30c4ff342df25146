"""What an installation holds."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

import sweeps


def test_the_package_named_sweeps_is_ours():
    # An extra of wandb installs another package of this name.
    assert Path(sweeps.__file__).with_name("spec.py").is_file()
    owners = importlib.metadata.packages_distributions().get("sweeps", ["emsweep"])
    assert owners == ["emsweep"]


def test_configuration_and_tiny_models_are_package_data():
    root = Path(sweeps.__file__).parents[1]
    assert (root / "sweeps/conf/sweep/quickstart.yaml").is_file()
    for name in ("tiny-32", "tiny-64", "tiny-96", "tiny-192", "tiny-64-careful", "tiny-64-hasty"):
        assert (root / "trainers/tiny/models" / name / "model.safetensors").is_file()


def test_the_console_script_names_the_command_line():
    [script] = [e for e in importlib.metadata.entry_points(group="console_scripts") if e.name == "emsweep"]
    assert script.value == "orchestrator.cli:main"
    assert importlib.util.find_spec("orchestrator.cli")
