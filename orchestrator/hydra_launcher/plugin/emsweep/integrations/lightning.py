"""Lightning: a callback and a logger.

::

    from emsweep.integrations import LightningCallback, LightningLogger

    Trainer(callbacks=[LightningCallback()], logger=LightningLogger()).fit(model)

The logger passes on what ``self.log`` writes, every ``log_every_n_steps``; the callback what is known at the
end of each epoch and validation, and it stops the trainer. Both may be used: of a step a later value counts.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from emsweep import report
from emsweep.integrations.scalars import scalars

if TYPE_CHECKING or importlib.util.find_spec("lightning") is not None:
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.loggers.logger import Logger
    from lightning.pytorch.utilities import rank_zero_only
else:  # the package's former name, which is still published
    from pytorch_lightning import Callback, LightningModule, Trainer
    from pytorch_lightning.loggers.logger import Logger
    from pytorch_lightning.utilities import rank_zero_only


class LightningCallback(Callback):
    """Reports ``trainer.callback_metrics``, and ends training when the run is to stop."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._report(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._report(trainer)

    def _report(self, trainer: Trainer) -> None:
        stop = False
        if trainer.is_global_zero:
            stop = report(trainer.global_step, **scalars(trainer.callback_metrics)).stop
        if trainer.strategy.broadcast(stop):
            trainer.should_stop = True


class LightningLogger(Logger):
    """Reports what a module logs; of several processes the first one does."""

    @property
    def name(self) -> str:
        return "emsweep"

    @property
    def version(self) -> int:
        return 0

    @rank_zero_only
    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        """The configuration is the run's own, and known."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        report(step or 0, **scalars(metrics))
