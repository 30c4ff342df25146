"""What figures call an axis of a sweep: words, not keys."""

from __future__ import annotations

from sweeps.grid.axes import last_part

_WORDS = {
    "optim.lr": "learning rate",
    "optim.weight_decay": "weight decay",
    "objective.temperature": "training temperature τ",
    "objective": "objective",
    "steps": "optimizer steps",
    "sampling.max_new_tokens": "new tokens, at most",
    "sampling.num_rollouts": "rollouts a prompt",
    "example.rows": "example",
    "init_from": "starts from",
    "merge.alpha": "weight α of the merge",
}
"""Keys whose last part is no word."""


def axis_words(key: str) -> str:
    """``learning rate`` for ``optim.lr``; else the last part of the key, its underscores spaces."""
    return _WORDS.get(key) or last_part(key).replace("_", " ")
