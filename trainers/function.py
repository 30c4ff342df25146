"""A function as a trainer: ``trainer.target: train:train`` calls ``train()`` of ``train.py``.

A whole trainer, ``train.py``::

    def train(params, seed, report):
        loss = 1.0
        for step in range(params["steps"]):
            loss *= params["rate"]
            report(step, loss=loss)
        return {"loss": loss}

and its sweep, ``sweep.yaml``, which ``emsweep launch sweep=sweep.yaml --allow-target train`` runs::

    # @package _global_
    defaults: [{override /trainer: function}]
    trainer: {target: train:train, params: {steps: 3}}
    sweep:
      axes: {trainer.params.rate: [0.5, 0.9], seed: range(3)}

It takes any of :data:`ARGUMENTS`, by name, and returns what :mod:`trainers.returned` takes for a result. Its
module is imported once a worker, so what the module builds at import stays warm. While it computes it
counts as alive, whether it says anything or not.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sweeps.spec import RunSpec, SpecError, nearest
from trainers.busy import Watch
from trainers.protocol import RunContext, RunResult

ARGUMENTS: Mapping[str, str] = {
    "params": "a copy of trainer.params, a dict",
    "seed": "the run's seed",
    "report": "tells what was measured at a step: report(3, loss=0.5)",
    "spec": "the run's whole configuration",
    "context": "the RunContext: attempt, folders, heartbeat, cancelled",
}
"""What a function may ask for, by name."""


class FunctionTrainer:
    """Calls one function for each run."""

    def __init__(self, function: Callable[..., Any], target: str) -> None:
        """Look at the function's arguments, once.

        Raises:
            SpecError: for what cannot be called so.
        """
        self._function = function
        self._wanted = wanted_arguments(function, target)
        self._watch = Watch()

    def run(self, spec: RunSpec, context: RunContext) -> RunResult:
        """Call it; what it returns is looked at by the worker."""
        offered = {
            "params": lambda: copy.deepcopy(dict(spec.trainer.params)),
            "seed": lambda: spec.seed,
            "report": lambda: context.report,
            "spec": lambda: spec,
            "context": lambda: context,
        }
        self._watch.begin(context.heartbeat)
        try:
            found: RunResult = self._function(**{name: offered[name]() for name in self._wanted})
        finally:
            self._watch.end()
        return found

    def close(self) -> None:
        """End the thread that beats for it."""
        self._watch.close()


def wanted_arguments(function: Callable[..., Any], target: str) -> tuple[str, ...]:
    """Which of :data:`ARGUMENTS` a function takes.

    Raises:
        SpecError: for a class, a coroutine, or an argument that nothing is known for.
    """
    refuse_kind(
        target, is_class=inspect.isclass(function), is_coroutine=inspect.iscoroutinefunction(function)
    )
    if not callable(function):
        raise SpecError(f"trainer.target={target!r}: is a {type(function).__name__}, no function")
    try:
        arguments = inspect.signature(function).parameters.values()
    except ValueError as error:
        raise SpecError(f"trainer.target={target!r}: its arguments cannot be read ({error})") from None
    named = [a for a in arguments if a.kind not in (a.VAR_POSITIONAL, a.VAR_KEYWORD)]
    refuse_unknown(target, (a.name for a in named if a.default is a.empty))
    return tuple(a.name for a in named if a.name in ARGUMENTS)


def refuse_kind(target: str, *, is_class: bool, is_coroutine: bool) -> None:
    """Refuse what is no plain function."""
    if is_class:
        raise SpecError(
            f"trainer.target={target!r}: is a class; name it with a dot, {target.replace(':', '.')!r}, or "
            "give a function"
        )
    if is_coroutine:
        raise SpecError(f"trainer.target={target!r}: is a coroutine; give a plain function that awaits it")


def refuse_unknown(target: str, required: Iterable[str]) -> None:
    """Refuse required arguments that nothing is known for."""
    for name in required:
        if name not in ARGUMENTS:
            raise SpecError(
                f"trainer.target={target!r}: takes {name!r}{nearest(name, ARGUMENTS)}; a function may take "
                f"{', '.join(ARGUMENTS)}; read {name!r} from params, or give it a default"
            )
