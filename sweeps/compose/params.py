"""Hydra's rule for the parameters of one's own trainer: once a file declares some, a new one needs a ``+``.

A word that misspells a parameter would otherwise add another: runs with new ids and the same results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import Override

from sweeps.compose.config import Config
from sweeps.spec import SpecError, nearest
from sweeps.spec.errors import cut

PARAMS = "trainer.params"
"""Key below which a trainer's own parameters are."""


def refuse_undeclared(words: Sequence[Override], composed: Callable[[Sequence[Override]], Config]) -> None:
    """Refuse words that set a parameter which is none, where files declare parameters.

    Declared is what the trainer's option and the sweep file give below ``trainer.params``, and each parameter
    that the file has an axis or a rule for.

    Args:
        words: those of the command line.
        composed: composes the configuration that words ask for.

    Raises:
        SpecError: naming the parameter and the nearest that is declared.
    """
    given = [word for word in words if _is_of_params(word.key_or_group)]
    asked = [key for word in given if not _adds(word) for key in _keys_of(word)]
    if not asked:
        return
    config = composed([w for w in words if w not in given and not w.is_sweep_override()]).raw
    trainer, sweep = config.get("trainer") or {}, config.get("sweep") or {}
    declared = [*_flat(trainer.get("params") or {}, PARAMS), *filter(_is_of_params, _axes_and_rules(sweep))]
    added = {key for word in given if _adds(word) for key in _keys_of(word)}
    if not declared:
        return
    for key in asked:
        if key not in declared and key not in added and not any(d.startswith(f"{key}.") for d in declared):
            raise SpecError(
                f"{cut(key)}: is no parameter that the sweep declares{nearest(key, declared)}; to add "
                f"one, write +{cut(key)}="
            )


def _adds(word: Override) -> bool:
    return word.is_add() or word.is_force_add()


def _is_of_params(key: str) -> bool:
    return key == PARAMS or key.startswith(f"{PARAMS}.")


def _keys_of(word: Override) -> Iterator[str]:
    """The parameters that a word sets: one, or those of a mapping."""
    value = None if word.is_sweep_override() else word.value()
    if isinstance(value, Mapping):
        yield from _leaves(value, word.key_or_group)
    elif word.key_or_group != PARAMS:
        yield word.key_or_group


def _flat(values: Mapping[Any, Any], prefix: str) -> Iterator[str]:
    for key, value in values.items():
        yield f"{prefix}.{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}.{key}")


def _leaves(values: Mapping[Any, Any], prefix: str) -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}.{key}")
        else:
            yield f"{prefix}.{key}"


def _axes_and_rules(node: Any) -> Iterator[str]:
    """Keys of the axes and rules of a ``sweep:`` node, those of its parts included."""
    if not isinstance(node, Mapping):
        return
    for name in ("axes", "set", "concat"):
        inner = node.get(name) or ()
        for entry in inner if isinstance(inner, list) else [inner]:
            yield from _axes_and_rules(entry) if name == "concat" else _texts(entry)


def _texts(entry: Any) -> Iterable[str]:
    return map(str, entry) if isinstance(entry, Mapping) else ()
