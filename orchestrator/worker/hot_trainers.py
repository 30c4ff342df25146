"""The trainers that a worker keeps warm: one per target, built when first asked for."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable

import trainers
from sweeps.spec import SpecError
from trainers.protocol import Closable, Trainer, WorkerContext


class HotTrainers:
    """Trainers by the import path of their class."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._trainers: dict[str, Trainer] = {}

    def get(self, target: str) -> Trainer:
        """The warm trainer, built if there is none.

        Raises:
            SpecError: when there is no such module or class; besides, whatever the class raises.
        """
        if target not in self._trainers:
            self._trainers[target] = import_target(target)(self._context)
        return self._trainers[target]

    def discard(self, target: str) -> None:
        """Close a trainer after a failure, so that the next run builds it anew."""
        trainer = self._trainers.pop(target, None)
        if isinstance(trainer, Closable):
            try:
                trainer.close()
            except BaseException as error:
                print(f"closing {target}: {type(error).__name__}", file=sys.stderr)
                traceback.print_exc()

    def close(self) -> None:
        """Close them all; what one of them raises does not keep the others warm."""
        for target in list(self._trainers):
            self.discard(target)


def import_target(target: str) -> Callable[[WorkerContext], Trainer]:
    """Import the class that a dotted path names.

    Raises:
        SpecError: when there is no such module or class.
    """
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SpecError(
            f"trainer.target={target!r}: cannot be imported ({error}); give module.Class"
        ) from error
    if _is_shipped(target) and not _is_shipped(str(getattr(found, "__module__", ""))):
        raise SpecError(f"trainer.target={target!r}: is something that {module} uses, and no trainer of ours")
    return found


def _is_shipped(path: str) -> bool:
    return path.split(".")[0] == trainers.__name__
