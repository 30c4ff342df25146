"""Trains a base model on the tiny world's text, from random weights, on one CPU thread.

Shapes: B documents, T tokens. Padding is on the right here; positions count from the document's first token.
The loss covers every token but the separators: a solution ends, and whether another problem follows is up to
whoever asks.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from trainers.tiny.architectures import ARCHITECTURES
from trainers.tiny.world import SEPARATOR, batches, split

NUM_SOLVED_PER_STEP = 256
"""Solved problems in a batch."""

WARMUP_STEPS = 50
"""Steps over which the learning rate rises linearly."""

MAX_GRAD_NORM = 1.0
"""The gradient's norm is clipped to this."""

IGNORED = -100
"""Label of a token that is not learned; what torch's cross entropy ignores by default."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides a base model's weights, bit for bit on one machine."""

    architecture: str
    size: int
    """Hidden width; a multiple of `SIZE_STEP`."""
    careful_share: float
    """Share of writers who are careful, 0 to 1."""
    num_steps: int
    peak_lr: float
    """Learning rate after warmup; falls linearly to zero at the last step."""
    seed: int


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained base model and what it took."""

    model: PreTrainedModel
    """In evaluation mode, fp32."""
    seconds: float
    """Wall time of the steps."""
    final_loss: float
    """Cross entropy of the last batch, nats per learned token."""


def learned_labels(ids_BT: torch.Tensor, tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    """The ids themselves; `IGNORED` at separators and padding. Shape (B, T).

    Problems are learned too, as any text is. A model that learns solutions only gains less by entropy
    minimization: at size 64 and 1,500 steps, lr 1e-4, 3 points in the median of eight examples against 7.
    """
    is_separator_BT = ids_BT == tokenizer.convert_tokens_to_ids(SEPARATOR)
    return ids_BT.masked_fill(is_separator_BT | (ids_BT == tokenizer.pad_token_id), IGNORED)


def lr_multiplier(step: int, num_steps: int) -> float:
    """Linear warmup that does not waste a step, then linear decay that ends just above zero."""
    return min((step + 1) / WARMUP_STEPS, (num_steps - step) / max(1, num_steps - WARMUP_STEPS), 1.0)


def train(
    recipe: Recipe,
    tokenizer: PreTrainedTokenizerFast,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> Trained:
    """Train from random weights, on one thread while it lasts, so that the same recipe gives the same bits.

    Args:
        on_step: called after each step with the number of steps done and the loss.
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _train(recipe, tokenizer, on_step)
    finally:
        torch.set_num_threads(num_threads)


def _train(
    recipe: Recipe, tokenizer: PreTrainedTokenizerFast, on_step: Callable[[int, float], None]
) -> Trained:
    config = ARCHITECTURES[recipe.architecture](
        hidden=recipe.size,
        vocab_size=len(tokenizer),
        pad_id=tokenizer.pad_token_id,
        end_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="sdpa")
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.peak_lr)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: lr_multiplier(step, recipe.num_steps)
    )
    documents = batches(
        split().train, share=recipe.careful_share, num_solved=NUM_SOLVED_PER_STEP, seed=recipe.seed
    )
    loss = torch.tensor(float("nan"))
    started_s = time.monotonic()
    for step in range(recipe.num_steps):
        texts = [text + tokenizer.eos_token for text in next(documents)]
        batch = tokenizer(texts, padding=True, padding_side="right", return_tensors="pt")
        logits_BTV = model(input_ids=batch.input_ids, use_cache=False).logits
        labels_BT = learned_labels(batch.input_ids, tokenizer)
        loss = torch.nn.functional.cross_entropy(
            logits_BTV[:, :-1].flatten(0, 1), labels_BT[:, 1:].flatten(), ignore_index=IGNORED
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        on_step(step + 1, loss.item())
    return Trained(model=model.eval(), seconds=time.monotonic() - started_s, final_loss=loss.item())
