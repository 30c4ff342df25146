"""The frozen reference: its log-probabilities of rollouts or given completions, without a second engine.

It is the base model, or with ``objective.reference=start`` the model that training starts from, that of an
earlier run. The engine lends its module to the reference's weights for a forward. The same batch gives the
same bits whenever it is asked for, so batches are remembered: at low temperature a policy draws the same few
rollouts step after step, and run after run.

Shapes: B rows of a micro batch, K positions with logits.
"""

from __future__ import annotations

from collections import OrderedDict
from weakref import WeakKeyDictionary

from torch import Tensor

from trainers.engine.engine import Engine
from trainers.engine.gang import Gang
from trainers.step.batch import MicroBatch, StepBatch
from trainers.step.scoring import log_probs

BATCHES_REMEMBERED = 512
"""Micro batches kept per engine: 64 rows of 512 tokens are 128 KiB each, short ones a hundredth of that."""


class References:
    """A worker's memory of what its references think of rollouts."""

    def __init__(self, gang: Gang) -> None:
        self._gang = gang
        self._known: WeakKeyDictionary[Engine, OrderedDict[tuple, Tensor]] = WeakKeyDictionary()

    def log_probs(self, engine: Engine, batch: StepBatch, temperature: float) -> list[Tensor]:
        """Log π_ref of every token of this rank's rows, 0 where not counted: one (B, K) per micro batch.

        Every rank must call it.
        """
        known = self._known.setdefault(engine, OrderedDict())
        keys = [(engine.start_name, *_key(b, temperature)) for b in batch.micro_batches]
        if self._gang.any(any(key not in known for key in keys)):
            with engine.reference_weights():
                known.update(zip(keys, log_probs(engine.module, batch, temperature), strict=True))
        values = [known[key] for key in keys]
        for key in keys:
            known.move_to_end(key)
        while len(known) > BATCHES_REMEMBERED:
            known.popitem(last=False)
        return values


def _key(micro_batch: MicroBatch, temperature: float) -> tuple:
    ids = micro_batch.ids_BT.cpu().numpy()
    mask = micro_batch.mask_BK.cpu().numpy()
    attended = b"" if micro_batch.attended_BT is None else micro_batch.attended_BT.cpu().numpy().tobytes()
    shapes = micro_batch.shared_prompt, ids.shape, mask.shape
    return temperature, *shapes, ids.tobytes(), mask.tobytes(), attended
