"""Working through logits piece by piece, so that no second tensor of their size is ever held.

Shapes: N positions, V vocabulary, C positions of one chunk.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

CHUNK_ELEMENTS = {"cpu": 1 << 21, "cuda": 1 << 26}
"""Logits turned into fp32 at a time, by device: 8 MiB where memory is counted in megabytes, 256 MiB where a
launch costs more than the arithmetic; 4,096 positions of a 152k vocabulary take 2.5 GB.
"""

LOG_ZERO = -1e4
"""Floor of log-probabilities: far below the −104 at which fp32 ``exp`` reaches zero."""


def chunks(flat_NV: Tensor) -> Iterator[slice]:
    """Yield slices of positions, each of about :data:`CHUNK_ELEMENTS` logits."""
    size = max(1, CHUNK_ELEMENTS[flat_NV.device.type] // flat_NV.shape[-1])
    for start in range(0, len(flat_NV), size):
        yield slice(start, start + size)


def log_softmax(logits_CV: Tensor, temperature: float) -> Tensor:
    """Return log softmax(z/τ) in fp32, at least :data:`LOG_ZERO`.

    A token masked out by a logit of −inf adds nothing to an entropy; without a floor 0 × −inf would be NaN.
    """
    scaled_CV = logits_CV.float() if temperature == 1 else logits_CV.float() / temperature
    return torch.log_softmax(scaled_CV, -1).clamp_(min=LOG_ZERO)
