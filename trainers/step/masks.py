"""Which positions of a batch the loss counts.

A row is a prompt followed by a completion, EOS included, with padding on the right or on the left. Logits
at position t predict token t+1, so the completion is predicted at positions prompt−1 … prompt+completion−2,
counted from the row's first real token. Padding is told by position, never by token id, so a model whose
pad token is its EOS loses nothing.

Shapes: B rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def predicting_mask(
    tokens: Sequence[Sequence[int]],
    lengths: Sequence[int],
    width: int,
    *,
    padding: str = "right",
    offset: int = -1,
) -> Tensor:
    """Mark the positions whose logits predict the given tokens.

    Args:
        tokens: For each row, the tokens to be predicted, counted from its first real token.
        lengths: Real tokens of each row.
        padding: Side of the padding, ``right`` or ``left``.
        offset: Position of a token's logits relative to the token.

    Returns:
        Bool mask of shape (B, T).

    Raises:
        ValueError: if a row does not fit the width or the side is unknown.
    """
    if max(lengths) > width:
        raise ValueError(f"row of {max(lengths)} tokens in a batch {width} wide: widen the batch")
    if padding not in ("right", "left"):
        raise ValueError(f"padding={padding!r}: choose right or left")
    rows = [bytearray(width) for _ in tokens]  # a row of a tensor takes far longer to write to
    for row, counted, length in zip(rows, tokens, lengths, strict=True):
        first = width - length if padding == "left" else 0
        for token in counted:
            if token + offset >= 0:
                row[first + token + offset] = True
    return torch.frombuffer(bytearray().join(rows), dtype=torch.bool).view(len(rows), width)
