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
    mask_BT = torch.zeros(len(tokens), width, dtype=torch.bool)
    for row, (counted, length) in enumerate(zip(tokens, lengths, strict=True)):
        first = width - length if padding == "left" else 0
        mask_BT[row, [first + token + offset for token in counted if token + offset >= 0]] = True
    return mask_BT
