"""Code that runs name: the file of a function, the script of a command. Found and hashed, never imported.

What a run computes is decided by that file, so its SHA-256 is part of the run's identity; where the file lies
is not. A file is looked for where the sweep file is that names it, then as Python looks for modules, then in
the current folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sweeps.manifest.data_files import file_digest
from sweeps.spec import SpecError, TrainerSpec, coerce_key

FUNCTION = "train:train"
"""What a function's name looks like, for messages."""


MODULE = "-m"
"""Word after which Python takes a module's name."""

PYTHON = "python"
"""First word of a command that stands for the worker's own interpreter."""


def resolve_trainer(config: dict[str, Any], folder: Path | None = None) -> dict[str, Any]:
    """Find and hash the code that a trainer's configuration names.

    Args:
        config: the group ``trainer``.
        folder: of the sweep file, where there is one.

    Raises:
        SpecError: for code that is not there.
    """
    for key in ("digest", "folder"):
        if config.get(key):
            raise SpecError(
                f"trainer.{key}={config[key]!r}: is filled in when runs are asked for; leave it out"
            )
    target = str(config.get("target") or "")
    if not target:
        raise SpecError(
            f"trainer.target: is empty; name the function, such as {FUNCTION} for train() in train.py"
        )
    if ":" in target:
        return config | _function(target, folder)
    if config.get("command"):
        read = {"metrics_from": list(coerce_key("trainer.metrics_from", config.get("metrics_from") or []))}
        return config | read | _command(config["command"], folder)
    module = target.rpartition(".")[0]
    if folder and module and not module_file(module, search_path(None)) and module_file(module, [folder]):
        return config | {"folder": str(folder.absolute())}
    return config


def _command(written: Any, folder: Path | None) -> dict[str, Any]:
    _require_words(written)
    words = coerce_key("trainer.command", written)
    given = [folder] if folder else []
    places = list(dict.fromkeys(place.absolute() for place in [*given, Path.cwd()]))
    place = next((p for p in places if script_of(words, p)), places[0])
    if script_of(words, place) is None and (missing := missing_script(words)):
        raise SpecError(
            f"trainer.command: there is no {missing} in {' or in '.join(map(str, places))}; put it beside "
            "the sweep file, or launch from the folder that holds it"
        )
    files = command_files(words, place)
    return {"command": list(words), "folder": str(place), "digest": digest_of(files) if files else ""}


def _require_words(written: Any) -> None:
    """Refuse what YAML makes of a command that is written as in a shell, or of braces without quotes."""
    if isinstance(written, str):
        try:
            words = shlex.split(written)
        except ValueError:  # an open quote
            words = written.split()
        listed = ", ".join(f'"{word}"' if {"{", " "} & set(word) else word for word in words)
        raise SpecError(f"trainer.command: is a text; give a list of words: [{listed}]")
    for word in written if isinstance(written, list | tuple) else ():
        if isinstance(word, Mapping) and len(word) == 1 and next(iter(word.values())) is None:
            name = next(iter(word))
            raise SpecError(
                f'trainer.command: YAML takes {{{name}}} for a mapping; put the word in quotes: "{{{name}}}"'
            )


def _function(target: str, folder: Path | None) -> dict[str, Any]:
    module, _, name = target.partition(":")
    if module.endswith(".py"):
        raise SpecError(
            f"trainer.target={target!r}: names a file; write its module: {module.removesuffix('.py')}:{name}"
        )
    if not name.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        raise SpecError(
            f"trainer.target={target!r}: names no function; write module:function, such as {FUNCTION}"
        )
    places = search_path(folder)
    found = module_file(module, places)
    if found is None:
        where = f"{places[0]} nor on the import path" if folder else "this folder nor on the import path"
        raise SpecError(
            f"trainer.target={target!r}: there is no {module.replace('.', '/')}.py, neither in {where}; put "
            "it beside the sweep file, or launch from the folder that holds it"
        )
    place, file = found
    return {"folder": str(place), "digest": file_digest(file)}


def search_path(folder: Path | None) -> list[Path]:
    """Folders in which a function's module is looked for, in order."""
    given = [folder] if folder else []
    return list(dict.fromkeys(p.absolute() for p in [*given, *(Path(p) for p in sys.path), Path.cwd()]))


def module_file(module: str, places: Iterable[Path]) -> tuple[Path, Path] | None:
    """The folder and the file of a module, by the names of files alone."""
    for place in places:
        stem = place.joinpath(*module.split("."))
        for file in (stem / "__init__.py", stem.with_name(f"{stem.name}.py")):
            if file.is_file():
                return place, file
    return None


def code_files(trainer: TrainerSpec) -> list[Path]:
    """The files that a resolved trainer's digest is of, as they lie now; empty where one is gone."""
    if trainer.command:
        return command_files(trainer.command, Path(trainer.folder))
    found = module_file(trainer.target.partition(":")[0], [Path(trainer.folder)])
    return [found[1]] if found else []


def digest_of(files: Sequence[Path]) -> str:
    """SHA-256 of a file, or over those of several."""
    digests = [file_digest(file) for file in files]
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


def script_of(words: Sequence[str], folder: Path) -> tuple[int, Path] | None:
    """The position of a command's script among its words, and its file.

    It is the first word where that is a path below the folder, else the first of the others that is a file;
    without one a program that is named by its whole path.
    """
    program = _file(words[0], folder) if "/" in words[0] else None
    if program and not words[0].startswith(("/", "~")):
        return 0, program
    if names_module(words):
        found = module_file(words[2], [folder]) if len(words) > 2 and "{" not in words[2] else None
        return (2, found[1]) if found else None
    for position, word in enumerate(words[1:], 1):
        if file := _file(word, folder):
            return position, file
    return (0, program) if program else None


def names_module(words: Sequence[str]) -> bool:
    """Whether a command names its script as a module: ``python -m pkg.train``."""
    return tuple(words[1:2]) == (MODULE,)


def _file(word: str, folder: Path) -> Path | None:
    """The file that a word names, if it names one."""
    if not word or word.startswith("-") or "{" in word or "\0" in word:
        return None
    file = folder / Path(word).expanduser()
    with contextlib.suppress(OSError):  # a word too long to be a file's name
        return file if file.is_file() else None
    return None


def missing_script(words: Sequence[str]) -> str:
    """The word that Python would take for its script; empty where there is none, or none is needed."""
    if words[0] == PYTHON and len(words) > 1 and not words[1].startswith("-") and "{" not in words[1]:
        return words[1]
    return words[0] if "/" in words[0] and "{" not in words[0] else ""


def command_files(words: Sequence[str], folder: Path) -> list[Path]:
    """The script of a command, and the files that words name by ``{folder}/``; empty where one is gone."""
    script = script_of(words, folder)
    files = [script[1]] if script else []
    for word in words:
        _, named, rest = word.partition("{folder}/")
        if named and "{" not in rest and (folder / rest).is_file():
            files.append(folder / rest)
    return files


def is_function(trainer: TrainerSpec) -> bool:
    """Whether a trainer's target names a function."""
    return ":" in trainer.target
