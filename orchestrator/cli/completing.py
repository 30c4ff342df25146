"""How a command line could go on: verbs, options, sweep directories, run ids, axes, and Hydra's overrides."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path

import typer

from orchestrator.cli.typer_internals import Verb, verb_of, verbs_of
from sweeps.spec.errors import UserError

SHELLS = {
    "bash": "_emsweep() { local IFS=$'\\n'; COMPREPLY=( $(emsweep complete \"$COMP_LINE\") ); }\n"
    "COMP_WORDBREAKS=${COMP_WORDBREAKS//=}\n"
    "complete -o nospace -o default -F _emsweep emsweep",
    "zsh": '_emsweep() { compadd -S "" -- ${(f)"$(emsweep complete "${words[1,CURRENT]}")"} }\n'
    "compdef _emsweep emsweep",
    "fish": "complete -c emsweep -f -a '(emsweep complete (commandline -cp))'",
}
"""Shell to the lines that make it complete verbs, groups, options and keys."""

MAX_SHOWN = 200
"""Possibilities that are offered at once: a screen holds fewer."""

OUTPUTS = "outputs"
"""Folder in which sweep directories are looked for."""

CHOICES = {"--pool": ("local", "ray", "inline"), "--to": ("wandb", "mlflow", "tensorboard")}
"""Options whose values are few."""


def completions_of(context: typer.Context, typed: Sequence[str]) -> list[str]:
    """What the last of the words could become; empty where nothing is known, so that the shell offers files.

    Args:
        typed: the words so far, the program's name first, the last one unfinished.
    """
    word = typed[-1]
    if len(typed) == 2:
        return [verb for verb in verbs_of(context) if verb.startswith(word)]
    verb = verb_of(context, typed[1])
    if verb is None:
        return []
    if word.startswith("-"):
        return sorted(option for option in verb.options if option.startswith(word))
    before = typed[2:-1]
    if before and verb.options.get(before[-1]):
        return _matching(word, _values_of(before[-1], _positional(verb, before[:-1])))
    given = _positional(verb, before)
    if verb.arguments[:1] == ("overrides",):
        return _overrides([*(w for w in given if "=" in w), word])
    if len(given) < len(verb.arguments) or verb.arguments[-1:] == ("filters",):
        kind = verb.arguments[min(len(given), len(verb.arguments) - 1)]
        return _matching(word, _ARGUMENTS.get(kind, lambda _: ())(given))
    return []


def _matching(word: str, known: Iterable[str]) -> list[str]:
    return list(islice((text for text in known if text.startswith(word)), MAX_SHOWN))


def _positional(verb: Verb, words: Sequence[str]) -> list[str]:
    """The words that are neither options nor their values."""
    found, is_value = [], False
    for word in words:
        if is_value:
            is_value = False
        elif word.startswith("-"):
            is_value = verb.options.get(word, False)
        else:
            found.append(word)
    return found


def _values_of(option: str, given: Sequence[str]) -> Iterable[str]:
    if option == "--run":
        return _run_ids(given)
    if option == "--dir":
        return _sweeps(given)
    return CHOICES.get(option, ())


def _overrides(words: Sequence[str]) -> list[str]:
    from sweeps.compose import completions

    found = completions(words)
    group, equals, value = words[-1].partition("=")
    if group == "sweep" and equals:
        files = sorted(path.name for ending in ("yaml", "yml") for path in Path().glob(f"*.{ending}"))
        found = [*found, *(f"sweep={name}" for name in files if name.startswith(value))]
    return found


def _sweeps(_: Sequence[str]) -> Iterable[str]:
    """Sweep directories below ``outputs``."""
    return sorted(str(path.parent) for path in Path(OUTPUTS).glob("*/sweep.yaml"))


def _run_ids(given: Sequence[str]) -> Iterable[str]:
    with contextlib.suppress(UserError, OSError, IndexError):
        import pyarrow as pa
        import pyarrow.parquet as pq

        from orchestrator.store.layout import Layout

        with contextlib.suppress(pa.ArrowException):
            table = pq.read_table(Layout(Path(given[0])).manifest, columns=["run_id"])
            return [str(run_id) for run_id in table["run_id"].to_pylist()]
    return ()


def _axes(given: Sequence[str]) -> Iterable[str]:
    """``axis=value`` for each value of each axis, as filters are written."""
    with contextlib.suppress(OSError, IndexError, KeyError, ValueError):
        import pyarrow as pa
        import pyarrow.parquet as pq

        from orchestrator.store.layout import Layout
        from sweeps.grid.filters import as_text
        from sweeps.manifest.manifest_file import METADATA_KEY

        with contextlib.suppress(pa.ArrowException):
            told = pq.read_schema(Layout(Path(given[0])).manifest).metadata[METADATA_KEY]
            axes = json.loads(told)["axes"]
            return [f"{axis['key']}={as_text(value)}" for axis in axes for value in axis["values"]]
    return ()


def _shells(_: Sequence[str]) -> Iterable[str]:
    return SHELLS


_ARGUMENTS: dict[str, Callable[[Sequence[str]], Iterable[str]]] = {
    "directory": _sweeps,
    "directories": _sweeps,
    "run_id": _run_ids,
    "filters": _axes,
    "shell": _shells,
}
