"""Which positions of a batch the loss counts.

Shapes: B rows, T tokens. A row is a prompt of ``prompt_B`` tokens followed by a completion of
    ``completion_B`` tokens, EOS
included, with padding on the right or on the left. Logits at position t predict token t+1, so the
completion is predicted at positions prompt−1 … prompt+completion−2 (counted from the row's first real
token). Padding is told by position, never by token id, so a model whose pad token is its EOS loses nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor


def completion_mask(prompt_B: Tensor, completion_B: Tensor, width: int, *, padding: str = "right") -> Tensor:
    """Mark the positions whose logits predict a completion token.

    Args:
        prompt_B: Prompt lengths in tokens, at least 1.
        completion_B: Completion lengths in tokens, EOS included; 0 marks nothing.
        width: T, the padded width of the batch.
        padding: Side of the padding, ``right`` or ``left``.

    Returns:
        Bool mask of shape (B, T).

    Raises:
        ValueError: if a row does not fit the width or the side is unknown.
    """
    total_B = prompt_B + completion_B
    if int(total_B.max()) > width:
        raise ValueError(f"row of {int(total_B.max())} tokens in a batch {width} wide: widen the batch")
    if padding == "right":
        first_B = torch.zeros_like(total_B)
    elif padding == "left":
        first_B = width - total_B
    else:
        raise ValueError(f"padding={padding!r}: choose right or left")
    position_T = torch.arange(width, device=prompt_B.device)
    start_B1 = (first_B + prompt_B - 1)[:, None]
    return (position_T >= start_B1) & (position_T < start_B1 + completion_B[:, None])
