"""What a model does on problems of the tiny world: accuracy, choice of mode, entropy."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from trainers.tiny.world import CAREFUL_MARK, HASTY_MARK, extract_answer

MAX_NEW_TOKENS = 12
"""The longest right completion, `;11;131` and its end, has eight."""


@dataclass(frozen=True, kw_only=True)
class Rollouts:
    """Completions of some prompts, in the prompts' order."""

    texts: list[str]
    """Without the end token; a completion that did not end is as long as it got."""
    entropy_nats: torch.Tensor
    """Entropy of each completion's next-token distributions at temperature 1, summed. Shape (B,)."""
    num_tokens: torch.Tensor
    """Tokens of each completion, its end included. Shape (B,)."""

    @property
    def mean_entropy_nats(self) -> float:
        """Token-weighted mean entropy: the quantity that entropy minimization lowers, before training."""
        return (self.entropy_nats.sum() / self.num_tokens.sum()).item()


def roll_out(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    *,
    temperature: float | None,
    seed: int = 0,
) -> Rollouts:
    """Complete each prompt once.

    Args:
        temperature: of the sampling; None takes the likeliest token each time.
    """
    sampling: dict[str, Any] = {"do_sample": False}
    if temperature is not None:
        sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    batch = tokenizer(prompts, padding=True, padding_side="left", return_tensors="pt")
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        output = model.generate(  # type: ignore[operator]  # every causal language model has it
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            max_new_tokens=MAX_NEW_TOKENS,
            output_logits=True,
            return_dict_in_generate=True,
            **sampling,
        )
    new_BT = output.sequences[:, batch.input_ids.shape[1] :]
    log_p_BTV = torch.stack(output.logits, dim=1).float().log_softmax(-1)
    entropy_BT = -(log_p_BTV.exp() * log_p_BTV).sum(-1)
    is_end_BT = new_BT == tokenizer.eos_token_id
    mask_BT = (is_end_BT.cumsum(1) - is_end_BT.long() == 0).float()  # up to and with the first end
    return Rollouts(
        texts=tokenizer.batch_decode(new_BT, skip_special_tokens=True),
        entropy_nats=(entropy_BT * mask_BT).sum(1),
        num_tokens=mask_BT.sum(1),
    )


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A base model's figures on some problems."""

    greedy_accuracy: float
    """Share of problems whose likeliest completion ends in the right answer."""
    sampled_accuracy: float
    """The same at temperature 1, over `NUM_SAMPLES` completions a problem."""
    careful_share: float
    """Share of sampled completions in the careful mode."""
    hasty_share: float
    """Share of sampled completions in the hasty mode."""
    entropy_nats: float
    """Mean token entropy of the sampled completions at temperature 1."""


NUM_SAMPLES = 4
"""Completions a problem behind `sampled_accuracy`: of 500 problems, a standard error below one point."""


def measure(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, items: list[dict[str, str]], seed: int = 0
) -> Facts:
    """Measure a model on problems with fields `problem` (the prompt) and `answer`."""
    prompts = [item["problem"] for item in items]
    greedy = roll_out(model, tokenizer, prompts, temperature=None)
    sampled = roll_out(model, tokenizer, prompts * NUM_SAMPLES, temperature=1.0, seed=seed)

    def accuracy(texts: list[str]) -> float:
        answers = [item["answer"] for item in items] * (len(texts) // len(items))
        return sum(extract_answer(t) == a for t, a in zip(texts, answers, strict=True)) / len(texts)

    return Facts(
        greedy_accuracy=accuracy(greedy.texts),
        sampled_accuracy=accuracy(sampled.texts),
        careful_share=sum(text.startswith(CAREFUL_MARK) for text in sampled.texts) / len(sampled.texts),
        hasty_share=sum(text.startswith(HASTY_MARK) for text in sampled.texts) / len(sampled.texts),
        entropy_nats=sampled.mean_entropy_nats,
    )
