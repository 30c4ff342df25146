"""The trainers that a worker keeps warm: one per target, built when first asked for."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable
from typing import Any

import trainers
from orchestrator.worker.function_file import import_function
from sweeps.manifest.code_files import is_function
from sweeps.spec import SpecError, TrainerSpec
from trainers.function import FunctionTrainer
from trainers.protocol import Closable, Trainer, WorkerContext


class HotTrainers:
    """Trainers by the import path of their class or function."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._trainers: dict[str, Trainer] = {}

    def get(self, trainer: TrainerSpec) -> Trainer:
        """The warm trainer, built if there is none.

        Raises:
            SpecError: when there is no such module, class or function; besides, whatever the class raises.
        """
        if trainer.target not in self._trainers:
            self._trainers[trainer.target] = self._built(trainer)
        return self._trainers[trainer.target]

    def _built(self, trainer: TrainerSpec) -> Trainer:
        if is_function(trainer):
            return FunctionTrainer(import_function(trainer), trainer.target)
        if trainer.folder and not _is_shipped(trainer.target) and trainer.folder not in sys.path:
            sys.path.append(trainer.folder)
        return import_target(trainer.target)(self._context)

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
        found: Any = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SpecError(
            f"trainer.target={target!r}: cannot be imported ({error}); give module.Class"
        ) from error
    if _is_shipped(target) and not _is_shipped(str(getattr(found, "__module__", ""))):
        raise SpecError(f"trainer.target={target!r}: is something that {module} uses, and no trainer of ours")
    return found


def _is_shipped(path: str) -> bool:
    return path.split(".")[0] == trainers.__name__
