"""``report`` for the training loops of other libraries: each passes on what its library logs.

HuggingFaceCallback   a ``TrainerCallback``: Trainer, and TRL's SFT, DPO and GRPO trainers
LightningCallback     reports at the end of each epoch and validation, and stops the trainer
LightningLogger       reports whatever ``self.log`` writes
AccelerateTracker     for ``Accelerator(log_with=…)``

What is no number, truth value or short text is left out. Each library is imported when its name is first
asked for. Of several processes the main one reports, and all stop together.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emsweep.integrations.accelerate import AccelerateTracker
    from emsweep.integrations.huggingface import HuggingFaceCallback
    from emsweep.integrations.lightning import LightningCallback, LightningLogger

__all__ = ["AccelerateTracker", "HuggingFaceCallback", "LightningCallback", "LightningLogger"]

_HOMES = {
    "AccelerateTracker": "emsweep.integrations.accelerate",
    "HuggingFaceCallback": "emsweep.integrations.huggingface",
    "LightningCallback": "emsweep.integrations.lightning",
    "LightningLogger": "emsweep.integrations.lightning",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'emsweep.integrations' has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
    return found
