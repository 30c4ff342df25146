"""One attempt at a command: its folder, its words and its environment."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweeps.manifest.code_files import PYTHON, code_files, digest_of, names_module, script_of
from sweeps.spec import RunSpec, SpecError, TrainerSpec
from sweeps.spec.command_words import filled, source_of, value_of_key
from trainers.protocol import RunContext

WORK = "work"
"""Folder of a sweep directory that holds one folder a run, and in it one an attempt."""

DROPPED = ("PYTHONSAFEPATH",)
"""Variables of a worker that a command does not get: a script finds what lies beside it."""


def made_folder(context: RunContext, run_id: str, elsewhere: Path) -> Path:
    """A new, empty folder for an attempt; what a driver that died left there goes."""
    root = context.sweep_dir or elsewhere
    folder = (root / WORK / run_id / f"attempt_{context.attempt}").absolute()
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


def remove_if_empty(folder: Path) -> None:
    """Remove an attempt's folder that the command left empty, and the run's if it was the only one."""
    for empty in (folder, folder.parent):
        try:
            empty.rmdir()
        except OSError:
            return


def words_of(spec: RunSpec, run_id: str, output_dir: Path) -> list[str]:
    """The command's words as they are run.

    Raises:
        SpecError: for a script that is not the one that was hashed.
    """
    trainer = spec.trainer
    folder = Path(trainer.folder)
    require_hashed(trainer)
    own: Mapping[str, Any] = {"run_id": run_id, "output_dir": str(output_dir), "folder": str(folder)}

    def value_of(name: str) -> Any:
        return own[name] if name in own else value_of_key(spec, name)

    words = [filled(word, value_of) for word in trainer.command]
    if words[0] == PYTHON:
        words[0] = sys.executable
    script = script_of(trainer.command, folder)
    if script and not names_module(trainer.command):
        words[script[0]] = str(script[1])
    return words


def require_hashed(trainer: TrainerSpec) -> None:
    """Refuse a script that has changed since its runs were asked for."""
    if not trainer.digest:
        return
    files = code_files(trainer)
    if not files or digest_of(files) != trainer.digest:
        what = ", ".join(map(str, files)) or f"the script of {trainer.command[0]}"
        raise SpecError(
            f"trainer.command: {what} has changed since its runs were asked for; launch the sweep again, "
            "which adds runs of it as it is now, or put it back"
        )


def environment_of(trainer: TrainerSpec, run_id: str, output_dir: Path) -> dict[str, str]:
    """The worker's environment, GPUs and threads as they are, and where the command belongs."""
    environment = {name: value for name, value in os.environ.items() if name not in DROPPED}
    environment |= {"EMSWEEP_RUN_ID": run_id, "EMSWEEP_OUTPUT_DIR": str(output_dir), "PWD": str(output_dir)}
    if names_module(trainer.command):  # Python looks for a module where it is started
        path_of_modules = [*filter(None, environment.get("PYTHONPATH", "").split(os.pathsep)), trainer.folder]
        environment["PYTHONPATH"] = os.pathsep.join(path_of_modules)
    for kind, path in map(source_of, trainer.metrics_from):
        if kind == "wandb":
            environment |= {"WANDB_MODE": "offline", "WANDB_DIR": str(output_dir / path)}
    return environment
