"""Relative paths in sweep and option files: relative to the file that says them, as people expect of a file.

A path on the command line is relative to the current folder. So is one in a file where nothing lies beside
the file and something does in the current folder, which earlier versions looked in.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from sweeps.hydra_internals import plain_value
from sweeps.spec.hub_names import may_be_hub_set

PATH_KEYS = ("model.path", "example.path", "data.path", "eval.path", "schedule.norms_path")
"""Keys of a run that name a file or a folder."""

_OF_MIX = re.compile(r"data\.mix\.[^.]+\.path")
"""Those of the sets of a mix."""

HERE = ("./", "../")
"""How a path begins that can be nothing else; ``a/b`` may also be a model of the hub."""


def anchor_paths(config: DictConfig, package: str, folder: Path) -> None:
    """Rewrite the relative paths of a file's configuration so that they mean the same from here.

    Args:
        config: what the file holds, changed in place.
        package: the key below which Hydra puts it; empty for the whole configuration.
        folder: where the file lies.
    """
    if folder.resolve() == Path.cwd():
        return
    with read_write(config), open_dict(config):
        for key in (*PATH_KEYS, *_keys_of_mix(config, package)):
            if package and not key.startswith(f"{package}."):
                continue
            parts = key.removeprefix(f"{package}.").split(".")
            is_there, value = plain_value(config, parts)
            if is_there and isinstance(value, str):
                OmegaConf.update(config, ".".join(parts), anchored(key, value, folder))
        is_there, sweep = plain_value(config, ["sweep"])
        if is_there and not package and isinstance(sweep, Mapping):
            moved = _sweep(sweep, lambda key, written: _values(key, written, folder))
            if moved != sweep:
                config.sweep = moved


def _keys_of_mix(config: DictConfig, package: str) -> list[str]:
    """Keys of the paths of the sets that a file mixes."""
    _, mix = plain_value(config, ["mix"] if package == "data" else ["data", "mix"])
    return [f"data.mix.{name}.path" for name in mix] if isinstance(mix, Mapping) else []


def anchored(key: str, path: str, folder: Path) -> str:
    """A path that a file in ``folder`` says, as it is to be written in the current folder."""
    if "://" in path or path.startswith(("~", "${")) or not path or Path(path).is_absolute():
        return path
    beside = folder / path
    is_sure = path.startswith(HERE)
    if "${" in path:
        return _from_here(beside) if is_sure else path
    may_be_of_hub = key == "model.path" or (key.startswith("data.") and may_be_hub_set(path))
    if not beside.exists() and (Path(path).exists() or (may_be_of_hub and not is_sure)):
        return path
    return _from_here(beside)


def _from_here(path: Path) -> str:
    whole = os.path.normpath(path.absolute())
    here = f"{Path.cwd()}/"
    return whole.removeprefix(here)


def _sweep(node: Mapping[str, Any], values: Callable[[str, Any], Any]) -> dict[str, Any]:
    """The ``sweep:`` node with the paths of its axes and rules rewritten."""
    moved = dict(node)
    if isinstance(axes := node.get("axes"), Mapping):
        moved["axes"] = {key: values(str(key), written) for key, written in axes.items()}
    if isinstance(parts := node.get("concat"), list):
        moved["concat"] = [_sweep(part, values) if isinstance(part, Mapping) else part for part in parts]
    if isinstance(rules := node.get("set"), list):
        moved["set"] = [
            {key: values(str(key), v) for key, v in rule.items()} if isinstance(rule, Mapping) else rule
            for rule in rules
        ]
    return moved


def _values(key: str, written: Any, folder: Path) -> Any:
    """What an axis or a rule writes for a key: one path, several, or a list with a condition."""
    if key not in PATH_KEYS and not _OF_MIX.fullmatch(key):
        return written
    if isinstance(written, Mapping):
        return {name: _values(key, v, folder) if name == "values" else v for name, v in written.items()}
    if isinstance(written, list):
        return [_values(key, value, folder) for value in written]
    if not isinstance(written, str) or any(sign in written for sign in "()[]'\""):
        return written
    return ",".join(anchored(key, part.strip(), folder) for part in written.split(","))
