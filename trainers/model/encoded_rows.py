"""Rows of training sets as token ids, kept between the runs of a worker: rendering a chat template and
tokenising it takes as long as a small model's forward.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence

from sweeps.manifest.training_rows import TrainingRow
from sweeps.spec import DataSpec
from trainers.model.base_model import BaseModel
from trainers.model.target_encoding import GivenSequence, encode_given

MAX_TOKENS = 2**20
"""Tokens that are kept, 40 MiB of them as Python holds numbers; the rows used longest ago go first."""


class EncodedRows:
    """What :func:`trainers.model.target_encoding.encode_given` makes of rows, each worked out once."""

    def __init__(self, max_tokens: int = MAX_TOKENS) -> None:
        self._max_tokens, self._tokens = max_tokens, 0
        self._known: OrderedDict[Hashable, Sequence[GivenSequence]] = OrderedDict()

    def of(self, rows: Sequence[TrainingRow], data: DataSpec, base: BaseModel) -> list[GivenSequence]:
        """The sequences that the rows of a step give; raises as ``encode_given`` does."""
        form = (base.location, data.format, data.template, data.system, data.system_role)
        limits = (data.max_tokens, data.overlong)
        return [sequence for row in rows for sequence in self._of_row((row, form, limits), row, data, base)]

    def _of_row(
        self, key: Hashable, row: TrainingRow, data: DataSpec, base: BaseModel
    ) -> Sequence[GivenSequence]:
        known = self._known.get(key)
        if known is not None:
            self._known.move_to_end(key)
            return known
        sequences = encode_given([row], data, base)
        self._known[key] = sequences
        self._tokens += _num_tokens(sequences)
        while self._tokens > self._max_tokens and len(self._known) > 1:
            self._tokens -= _num_tokens(self._known.popitem(last=False)[1])
        return sequences


def _num_tokens(sequences: Sequence[GivenSequence]) -> int:
    return sum(len(sequence.ids) + len(sequence.counted) for sequence in sequences)
