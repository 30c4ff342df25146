"""Hugging Face's ``Trainer``, and TRL's trainers, which are such.

::

    from emsweep.integrations import HuggingFaceCallback

    Trainer(model, args, train_dataset=data, callbacks=[HuggingFaceCallback()]).train()
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from emsweep import report
from emsweep.integrations.scalars import scalars


class HuggingFaceCallback(TrainerCallback):
    """Reports what the trainer logs, evaluations included, and ends training when the run is to stop."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        stop = False
        if state.is_world_process_zero:
            stop = report(state.global_step, **scalars(logs or {})).stop
        if agreed(stop, args.world_size):
            control.should_training_stop = True


def agreed(stop: bool, num_processes: int) -> bool:
    """What the main process heard, in every process."""
    if num_processes < 2:
        return stop
    from accelerate.utils import broadcast_object_list

    [answer] = broadcast_object_list([stop], from_process=0)
    return bool(answer)
