"""Accelerate: a tracker.

::

    from emsweep.integrations import AccelerateTracker

    accelerator = Accelerator(log_with=AccelerateTracker())
    accelerator.init_trackers("mine")
    …
    accelerator.log({"loss": loss}, step=step)
    if accelerator.get_tracker("emsweep").decision.stop: …
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accelerate.tracking import GeneralTracker, on_main_process

from emsweep import Decision, report
from emsweep.integrations.scalars import scalars


class AccelerateTracker(GeneralTracker):
    """Reports what the accelerator logs; of several processes the main one does."""

    name = "emsweep"
    requires_logging_directory = False
    main_process_only = True

    def __init__(self) -> None:
        super().__init__()
        self._next = 0
        self.decision = Decision()
        """The newest decision heard; in the main process only."""

    @property
    def tracker(self) -> AccelerateTracker:
        """What ``get_tracker(…, unwrap=True)`` gives."""
        return self

    def store_init_configuration(self, values: Mapping[str, Any]) -> None:
        """The configuration is the run's own, and known."""

    @on_main_process
    def log(self, values: Mapping[str, Any], step: int | None = None, **_: Any) -> None:
        """Report values; without a step, at the one after the last."""
        number = self._next if step is None else step
        self._next = number + 1
        self.decision = report(number, **scalars(values))
