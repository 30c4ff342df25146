"""What a member trains on: its distinct rollouts, and what each of their tokens weighs in its loss.

Shapes: K counted tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sweeps.spec import RunSpec
from trainers.packs.engine import PackEngine
from trainers.packs.loss import entropies, weighed
from trainers.packs.tokens import MemberRows, tokens_of
from trainers.step.rollout import Rollouts
from trainers.step.update import Seen


@dataclass(frozen=True, kw_only=True)
class PackExperience:
    """One member's rollouts of a step."""

    rollouts: Rollouts
    rows: Sequence[Sequence[int]]
    """Prompt and completion without its last token, which predicts nothing."""
    wanted: Sequence[tuple[int, int]]
    """(row, position) of each position that predicts a token of a completion."""
    weight_K: Sequence[float]
    """Of each one's entropy in the loss."""
    share_K: Sequence[float]
    """Of each one among all tokens drawn."""


def experience_of(spec: RunSpec, rollouts: Rollouts, prompts: Sequence[Sequence[int]]) -> PackExperience:
    """Settle what rollouts weigh; see ``ObjectiveSpec.aggregation``."""
    rows: list[list[int]] = []
    wanted: list[tuple[int, int]] = []
    weights: list[float] = []
    shares: list[float] = []
    objective, num_rollouts = spec.objective, sum(rollouts.count)
    drawn = list(zip(rollouts.prompt, rollouts.completion, rollouts.count, strict=True))
    num_tokens = max(1, sum(len(completion) * count for _, completion, count in drawn))
    for number, (prompt, completion, count) in enumerate(drawn):
        length, first = len(completion), len(prompts[prompt]) - 1
        rows.append([*prompts[prompt], *completion[:-1]])
        wanted.extend((number, first + k) for k in range(length))
        divisor = {
            "token": num_tokens,
            "sequence": num_rollouts * length,
            "sum": num_rollouts,
            "dr": num_rollouts * spec.sampling.max_new_tokens,
        }[objective.aggregation]
        weights.extend([objective.entropy_weight * count / divisor] * length)
        shares.extend([count / num_tokens] * length)
    return PackExperience(rollouts=rollouts, rows=rows, wanted=wanted, weight_K=weights, share_K=shares)


def gradients_of(
    engine: PackEngine, members: Mapping[int, tuple[PackExperience, float]], pad_id: int
) -> dict[int, Seen]:
    """Compute the gradients of these slots, and return what each saw.

    Args:
        members: Slot to what it trains on and its training temperature, in ascending order.
    """
    each = [MemberRows(slot=slot, rows=e.rows, wanted=e.wanted) for slot, (e, _) in members.items()]
    tokens = tokens_of(each, pad_id)
    temperature = torch.ones(engine.stack.width)
    for slot, (_, own) in members.items():
        temperature[slot] = own
    weight_K = torch.zeros(len(tokens.wanted_K))
    weight_K[tokens.asked_K] = torch.tensor([w for e, _ in members.values() for w in e.weight_K])
    found: list[Tensor] = []

    def loss(logits_KV: Tensor) -> Tensor:
        weighed_K = weighed(logits_KV, temperature[tokens.wanted_slot_K], weight_K)
        found.append(weighed_K.detach())
        found.append(entropies(logits_KV.detach(), torch.ones_like(weight_K)))
        return weighed_K.sum()

    engine.accumulate(tokens, loss)
    lost, plain = (values[tokens.asked_K].double().tolist() for values in found)
    seen, first = {}, 0
    for slot, (experience, _) in members.items():
        stop = first + len(experience.weight_K)
        shares = zip(plain[first:stop], experience.share_K, strict=True)
        seen[slot] = Seen(
            loss=_sum(lost[first:stop]), entropy_nats=_sum([h * s for h, s in shares]), kl_nats=None
        )
        first = stop
    return seen


def _sum(values: Sequence[float]) -> float:
    return math.fsum(values) if all(map(math.isfinite, values)) else math.nan
