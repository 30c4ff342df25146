"""The words of a command that is a run: placeholders, and where its metrics come from. Pure.

``{optim.lr}`` stands for that key of the run, ``{trainer.params.x}`` for a free parameter, ``{run_id}``,
``{output_dir}`` and ``{folder}`` for the run's id, its own folder and the folder of the sweep file.
``{{seed}}`` is the text ``{seed}``. Truth values and nothing are written ``true``, ``false``, ``null``, lists
and mappings as JSON.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from sweeps.spec.cross_checks import require_pattern
from sweeps.spec.data_groups import ResourcesSpec, TrainerSpec
from sweeps.spec.errors import SpecError, nearest, shown
from sweeps.spec.run_spec import known_keys

COMMAND = "trainers.command.Command"
"""The trainer that runs commands."""

PLACEHOLDER = re.compile(r"\{\{([A-Za-z_][\w.]*)\}\}|\{([A-Za-z_][\w.]*)\}")

_FORMATTED = re.compile(r"(?<!\{)\{([A-Za-z_][\w.]*)[:!][^{}\s]*\}(?!\})")
"""A placeholder with a format, as Python has them."""

OWN_NAMES = ("run_id", "output_dir", "folder")
"""Placeholders that are no keys of a run."""

SOURCES: Mapping[str, str] = {
    "jsonl": "a file of JSON lines, read while it grows",
    "json": "a JSON file, read at the end",
    "wandb": "offline runs of W&B, read at the end",
    "tensorboard": "TensorBoard's event files, read while they grow",
}
"""Where metrics come from, by the word before the colon of ``trainer.metrics_from``."""

_NEED_FILE = ("jsonl", "json")


def placeholders(word: str) -> list[str]:
    """Names between single braces."""
    return [match[2] for match in PLACEHOLDER.finditer(word) if match[2]]


def filled(word: str, value_of: Callable[[str], Any]) -> str:
    """The word with every placeholder replaced."""
    return PLACEHOLDER.sub(lambda m: f"{{{m[1]}}}" if m[1] else written(value_of(m[2])), word)


def written(value: Any) -> str:
    """A value as a word of a command line."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False, default=list)


def value_of_key(spec: Any, key: str) -> Any:
    """What a run holds at a dotted key.

    Raises:
        SpecError: for a key that it has not.
    """
    group, *rest = key.split(".")
    value = getattr(spec, group)
    for part in rest:
        if isinstance(value, Mapping):
            if part not in value:
                raise SpecError(f"trainer.command: {{{key}}} is no key of this run{nearest(part, value)}")
            value = value[part]
        else:
            value = getattr(value, part)
    return dict(value) if isinstance(value, Mapping) else value


def shown_command(spec: Any, run_id: str) -> str:
    """A run's command as it would be typed; its own folder, which is not there yet, stays a placeholder."""
    own = {"run_id": run_id, "folder": spec.trainer.folder, "output_dir": "{output_dir}"}
    words = (filled(w, lambda name: own.get(name) or value_of_key(spec, name)) for w in spec.trainer.command)
    return shlex.join(words)


def source_of(written_source: str) -> tuple[str, str]:
    """Kind and path of an entry of ``trainer.metrics_from``.

    Raises:
        SpecError: for an unknown kind, or a path that leads out of the run's own folder.
    """
    kind, _, path = written_source.partition(":")
    key = f"trainer.metrics_from={shown(written_source)}"
    if kind not in SOURCES:
        raise SpecError(
            f"{key}: unknown source{nearest(kind, SOURCES)}; give jsonl:FILE, json:FILE, wandb or "
            "tensorboard (with :FOLDER)"
        )
    if kind in _NEED_FILE and not path:
        raise SpecError(f"{key}: names no file; write {kind}:metrics.{kind}, below the run's own folder")
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise SpecError(
            f"{key}: must lie in the run's own folder, which is the command's working folder; give a path "
            "below it"
        )
    return kind, path


def check_command(trainer: TrainerSpec, resources: ResourcesSpec) -> None:
    """Refuse a command that could not be run as it is meant.

    Raises:
        SpecError: for a command where none is run, none where one should be, an unknown placeholder, a
            pattern or source that is none.
    """
    if trainer.target != COMMAND:
        for key in ("command", "patterns", "metrics_from"):
            if getattr(trainer, key):
                raise SpecError(
                    f"trainer.{key}: {trainer.target} runs no command; choose it with "
                    "`defaults: [{override /trainer: command}]`, or leave the key out"
                )
        return
    if not trainer.command or not trainer.command[0]:
        raise SpecError(
            'trainer.command: is empty; give its words, such as [python, train.py, --seed, "{seed}"]'
        )
    if trainer.params and not _uses_params(trainer):
        name = next(iter(trainer.params))
        raise SpecError(
            f"trainer.params.{name}: no word of the command has it; add {{trainer.params.{name}}} to one, or "
            "leave it out"
        )
    for word in trainer.command:
        if "\0" in word:
            raise SpecError(f"trainer.command={shown(word)}: no word can hold a null character")
        for name in placeholders(word):
            _require_known(name, trainer)
        if (formatted := _FORMATTED.search(word)) and formatted[1] in (*OWN_NAMES, *known_keys()):
            raise SpecError(
                f"trainer.command={shown(word)}: values are written as they are, without a format; give "
                f"{{{formatted[1]}}}, and format it in the script"
            )
    for name, pattern in trainer.patterns.items():
        require_pattern(f"trainer.patterns.{name}", pattern)
        if not re.compile(pattern).groups:
            raise SpecError(
                f"trainer.patterns.{name}={shown(pattern)}: has no group; put the value in one: {name} = "
                "([-+.eE\\d]+)"
            )
    for source in trainer.metrics_from:
        source_of(source)
    if resources.world_size > 1:
        raise SpecError(
            f"resources.world_size={resources.world_size}: a command is started once; give it the GPUs of "
            "all its processes (resources.gpus_per_worker) and start them there, such as with torchrun"
        )


NO_WORDS = ("seed", "trainer", "resources", "engine", "init_from")
"""Axes that a command need not have a word of: repetition, the command itself, and how it is computed."""


def check_axes(trainers: Sequence[TrainerSpec], axes: Iterable[str], referred: Iterable[str] = ()) -> None:
    """Refuse an axis that no word of any command has: its runs would differ by name alone.

    Args:
        trainers: those of all runs.
        axes: keys with more than one value.
        referred: keys that the file refers to by ``${key}``, which are filled in already.
    """
    if any(trainer.target != COMMAND for trainer in trainers):
        return
    names = [name for trainer in trainers for word in trainer.command for name in placeholders(word)]
    names += referred
    for key in axes:
        used = any(f"{name}.".startswith(f"{key}.") or f"{key}.".startswith(f"{name}.") for name in names)
        if not used and key.partition(".")[0] not in NO_WORDS:
            raise SpecError(
                f"axis {key}: no word of the command has it, so its runs would differ by name alone; add "
                f"{{{key}}} to a word, or leave the axis out"
            )


def _uses_params(trainer: TrainerSpec) -> bool:
    names = [name for word in trainer.command for name in placeholders(word)]
    return all(
        any(name == "trainer.params" or f"{name}.".startswith(f"trainer.params.{key}.") for name in names)
        for key in trainer.params
    )


def _require_known(name: str, trainer: TrainerSpec) -> None:
    params = [f"trainer.params.{key}" for key in _flat(trainer.params)]
    known = [*OWN_NAMES, *known_keys(), *params]
    if name in known or any(f"{name}." == f"{key}."[: len(name) + 1] for key in params):
        return
    ending = [key for key in known if key.rpartition(".")[2] == name]
    close = f" (did you mean {' or '.join(repr(k) for k in ending[:3])}?)" if ending else nearest(name, known)
    raise SpecError(
        f"trainer.command: {{{name}}} is no key of a run{close}; {{{{{name}}}}} is the text itself"
    )


def _flat(values: Mapping[str, Any]) -> Iterable[str]:
    for key, value in values.items():
        yield key
        if isinstance(value, Mapping):
            yield from (f"{key}.{inner}" for inner in _flat(value))
