"""References in configuration: which are looked up when a sweep is composed and which wait for the run. Pure.

``${optim.lr}`` and other keys of a run stay, for their value may differ from run to run
(:mod:`sweeps.grid.resolve_configs` looks them up). ``${sweep.n}``, ``${cluster.pool}`` and resolvers such as
``${oc.env:HOME}`` have one value and are replaced at once. A relative reference (``${.x}``: beside this key,
``${..x}``: one level up) is spelled from the root first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sweeps.grid.error_location import at
from sweeps.spec import GROUPS, SCALARS, SpecError

MISSING = "???"
"""Hydra's mark of a value that must be given."""

_CALL = r"\$\{[A-Za-z_][\w.]*:[^${}]*"
_RESOLVER = re.compile(rf"{_CALL}(?:{_CALL}(?:{_CALL}\}}[^${{}}]*)*\}}[^${{}}]*)*\}}")
"""A call of a resolver, the calls in its arguments included: ``${oc.decode:${oc.env:N}}``."""

_CHOSEN_NAME = re.compile(r"oc\.env:\s*\$\{")
"""A variable whose name is itself looked up, which no rule about names can judge."""

_NODE = re.compile(r"\$\{\s*(\.*)([^${}:]+?)\s*\}")


def settle(
    value: Any,
    path: tuple[str, ...],
    look_up: Callable[[str], Any],
    resolve: Callable[[str], Any],
    typed: Callable[[Sequence[str], Any], Any] = lambda path, value: value,
) -> Any:
    """Return ``value`` with every reference replaced that does not point into a run.

    Args:
        value: plain nested values with references as text.
        path: where ``value`` stands, from the root.
        look_up: returns the value of a dotted key outside the run.
        resolve: returns what a resolver such as ``${oc.env:HOME}`` stands for.
        typed: returns what a value that was one reference is at its place.
    """
    if isinstance(value, Mapping):
        return {str(k): settle(v, (*path, str(k)), look_up, resolve, typed) for k, v in value.items()}
    if isinstance(value, list):
        return [settle(v, path, look_up, resolve, typed) for v in value]
    if value == MISSING:
        return None
    if not isinstance(value, str) or "${" not in value:
        return value
    if _CHOSEN_NAME.search(value):
        raise SpecError(f"{'.'.join(path)}={value!r}: the name of a variable must be written out")
    if _RESOLVER.fullmatch(value.strip()):
        return typed(path, resolve(value.strip()))
    text = _RESOLVER.sub(lambda m: str(resolve(m[0])), value)
    text = _NODE.sub(lambda m: "${" + _absolute(m[1], m[2], path) + "}", text)
    if "${" in _NODE.sub("", text):
        raise SpecError(
            f"{'.'.join(path)}={value!r}: references inside references are not supported; use plain ${{key}}"
        )
    with at(*path[1:]):
        whole = _NODE.fullmatch(text)
        if whole and not names_run_key(whole[2]):
            return typed(path, settle(look_up(whole[2]), path, look_up, resolve, typed))
        return _NODE.sub(lambda m: m[0] if names_run_key(m[2]) else str(look_up(m[2])), text)


def _absolute(dots: str, key: str, path: tuple[str, ...]) -> str:
    return ".".join((*path[: len(path) - len(dots)], key)) if dots else key


def names_run_key(key: str) -> bool:
    """Say whether a dotted key points into a run."""
    return key.split(".")[0] in (*GROUPS, *SCALARS)
