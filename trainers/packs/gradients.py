"""From the members' experience to their gradients, and to what their forwards tell.

Shapes: K positions with logits of all members, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sweeps.spec import ObjectiveSpec
from trainers.objectives.likelihood import token_statistics
from trainers.packs.engine import PackEngine
from trainers.packs.experience import Drawn, Measured, PackExperience, drawn_in_parts, joined
from trainers.packs.loss import entropies, exponential, terms, weighed
from trainers.packs.stack import Stack
from trainers.packs.tokens import MemberRows, Tokens, in_parts, num_tokens, tokens_of
from trainers.step.update import Seen

Training = Mapping[int, tuple[PackExperience, ObjectiveSpec]]
"""Slot, in ascending order, to what its member trains on and by which objective."""


def measure(
    stack: Stack,
    members: Mapping[int, tuple[Drawn, ObjectiveSpec]],
    pad_id: int,
    *,
    of_base: bool,
    micro_batch: int = 0,
) -> dict[int, Measured]:
    """What members, or the untrained model, think of the members' rollouts.

    Args:
        micro_batch: Rows of a member that are computed at once; 0 takes all.
    """
    found: dict[int, list[Measured]] = {slot: [] for slot in members}
    parts = {
        slot: [part for part, _ in drawn_in_parts(drawn, micro_batch or len(drawn.rows))]
        for slot, (drawn, _) in members.items()
    }
    for number in range(max(map(len, parts.values()))):
        now = {s: (own[number], members[s][1]) for s, own in parts.items() if number < len(own)}
        slots = list(now)
        for part in in_parts(_kept(stack, now), stack.at_once(_limit(stack))):
            told = _measured(stack, {s: now[s] for s in slots[part]}, pad_id, of_base=of_base)
            for slot, measured in told.items():
                found[slot].append(measured)
    return {slot: joined(own) for slot, own in found.items()}


def _measured(
    stack: Stack, members: Mapping[int, tuple[Drawn, ObjectiveSpec]], pad_id: int, *, of_base: bool
) -> dict[int, Measured]:
    tokens = _tokens(members, pad_id, stack)
    logits_KV = stack.logits(tokens, of_base=of_base)[tokens.asked_K]
    found = {}
    for slot, own in _parts(members):
        drawn, objective = members[slot]
        target = torch.tensor(drawn.target_K, device=stack.device)
        told = token_statistics(logits_KV[own], target, objective.temperature)
        if of_base:
            found[slot] = Measured(reference_K=told.log_prob_BT)
        else:
            found[slot] = Measured(
                log_prob_K=told.log_prob_BT, entropy_K=told.entropy_BT, certainty_K=told.certainty_BT
            )
    return found


TRACE_BYTES = 16 * 2**20
"""What a forward may keep for its backward pass, unless a model is so large that an eighth of it is more: so
that a pack needs little more memory than a run by itself.
"""


def gradients_of(engine: PackEngine, members: Training, pad_id: int) -> dict[int, Seen]:
    """Compute these members' gradients, as many at once as memory is set apart for; return what each saw."""
    stack = engine.stack
    seen: dict[int, list[Seen]] = {slot: [] for slot in members}
    for number in range(max(len(e.micro_batches) for e, _ in members.values())):
        own = {
            slot: (e.micro_batches[number], objective)
            for slot, (e, objective) in members.items()
            if number < len(e.micro_batches)
        }
        slots = list(own)
        for part in in_parts(_kept(stack, own), stack.at_once(_limit(stack))):
            now = _gradients(engine, {slot: own[slot] for slot in slots[part]}, pad_id, add=number > 0)
            for slot, seen_now in now.items():
                seen[slot].append(seen_now)
    return {slot: _of_step(own) for slot, own in seen.items()}


def _of_step(seen: Sequence[Seen]) -> Seen:
    """What all micro batches of a step saw."""
    if len(seen) == 1:
        return seen[0]
    apart = [s.kl_nats for s in seen if s.kl_nats is not None]
    return Seen(
        loss=_sum([s.loss for s in seen]),
        entropy_nats=_sum([s.entropy_nats for s in seen]),
        kl_nats=_sum(apart) if apart else None,
    )


def _gradients(engine: PackEngine, members: Training, pad_id: int, *, add: bool) -> dict[int, Seen]:
    device = engine.stack.device
    tokens = _tokens(members, pad_id, engine.stack)
    temperature = torch.ones(engine.stack.width, device=device)
    for slot, (_, objective) in members.items():
        temperature[slot] = objective.temperature
    temperature_K = temperature[tokens.wanted_slot_K]
    entropy_K = torch.zeros(len(tokens.wanted_K), device=device)
    entropy_K[tokens.asked_K] = torch.tensor(
        [w for e, _ in members.values() for w in e.entropy_K], device=device
    )
    policies = _Policies.of(members, tokens)
    told: list[Tensor] = []

    def loss(logits_KV: Tensor) -> Tensor:
        plain_K = entropies(logits_KV.detach(), torch.ones_like(entropy_K))
        if policies is None:
            loss_K = weighed(logits_KV, temperature_K, entropy_K)
            told.extend((loss_K.detach(), plain_K, torch.zeros_like(plain_K)))
            return loss_K.sum()
        others, own = policies.others, policies.own
        other_K = weighed(logits_KV[others], temperature_K[others], entropy_K[others])
        log_p_K, h_K = terms(logits_KV[own], temperature_K[own], policies.target_K)
        own_K, divergence_K = policies.loss(log_p_K, h_K * entropy_K[own])
        values_3K = plain_K.new_zeros(3, len(plain_K))
        values_3K[0, others], values_3K[0, own] = other_K.detach(), own_K.detach()
        values_3K[1], values_3K[2, own] = plain_K, divergence_K
        told.extend(values_3K)
        return other_K.sum() + own_K.sum()

    engine.accumulate(tokens, loss, add=add)
    lost, plain, apart = (values[tokens.asked_K].double().tolist() for values in told)
    seen = {}
    for slot, own in _parts(members):
        experience, objective = members[slot]
        in_loss = objective.diverges_in_loss
        seen[slot] = Seen(
            loss=_sum(lost[own]),
            entropy_nats=_mean(plain[own], experience.share_K),
            kl_nats=_mean(apart[own], experience.share_K) if in_loss else None,
        )
    return seen


@dataclass(frozen=True, kw_only=True)
class _Policies:
    """Tokens of the members whose loss reads log-probabilities, and what weighs on them."""

    own: Tensor
    """Which of all positions are theirs."""
    others: Tensor
    target_K: Tensor
    gain_K: Tensor
    cost_K: Tensor
    divergence_K: Tensor
    """Weight of each one's divergence from the reference."""
    reference_K: Tensor
    has_ratio_K: Tensor
    low_K: Tensor
    high_K: Tensor
    holders: Sequence[tuple[PackExperience, slice]]
    """Whose tokens they are, as slices of the other fields."""

    @classmethod
    def of(cls, members: Training, tokens: Tokens) -> _Policies | None:
        own: list[int] = []
        holders: list[tuple[PackExperience, slice]] = []
        objectives: list[ObjectiveSpec] = []
        for slot, part in _parts(members):
            experience, objective = members[slot]
            if experience.policy is not None:
                holders.append((experience, slice(len(own), len(own) + len(experience.target_K))))
                objectives += [objective] * len(experience.target_K)
                own += tokens.asked_K[part]
        if not own:
            return None
        device = tokens.wanted_K.device
        policies = [(e, e.policy) for e, _ in holders if e.policy is not None]
        theirs = torch.zeros(len(tokens.wanted_K), dtype=torch.bool, device=device)
        theirs[own] = True
        zeros = [torch.zeros(len(e.target_K), device=device) for e, _ in policies]
        return cls(
            own=torch.tensor(own, device=device),
            others=torch.nonzero(~theirs)[:, 0],
            target_K=torch.tensor([t for e, _ in policies for t in e.target_K], device=device),
            gain_K=torch.tensor([v for _, p in policies for v in p.gain_K], device=device),
            cost_K=torch.tensor([v for _, p in policies for v in p.cost_K], device=device),
            divergence_K=torch.tensor([v for _, p in policies for v in p.divergence_K], device=device),
            reference_K=torch.cat(
                [
                    z if p.reference_K is None else p.reference_K
                    for z, (_, p) in zip(zeros, policies, strict=True)
                ]
            ),
            has_ratio_K=torch.tensor(
                [o.is_policy_gradient and o.has_ratio for o in objectives], device=device
            ),
            low_K=torch.tensor([1 - o.clip_low for o in objectives], device=device),
            high_K=torch.tensor([1 + o.clip_high for o in objectives], device=device),
            holders=holders,
        )

    def loss(self, log_p_K: Tensor, entropy_K: Tensor) -> tuple[Tensor, Tensor]:
        """Each token's loss, and its divergence from the reference; see :mod:`trainers.objectives.policy`."""
        old_K = log_p_K.detach().clone()
        for experience, part in self.holders:
            assert experience.policy is not None
            if experience.policy.old_K is None:
                experience.policy.old_K = old_K[part].clone()
            old_K[part] = experience.policy.old_K
        ratio_K = exponential(log_p_K - old_K)
        clipped_K = self.gain_K * ratio_K.minimum(self.high_K) + self.cost_K * ratio_K.maximum(self.low_K)
        plain_K = (self.gain_K + self.cost_K) * log_p_K
        apart_K = self.reference_K - log_p_K
        divergence_K = exponential(apart_K) - apart_K - 1
        loss_K = entropy_K - torch.where(self.has_ratio_K, clipped_K, plain_K)
        return loss_K + self.divergence_K * divergence_K, divergence_K.detach()


def _kept(stack: Stack, members: Mapping[int, tuple[Drawn, ObjectiveSpec]]) -> list[int]:
    """What a forward keeps of each of these members."""
    return [stack.shape.trace_bytes(num_tokens(d.rows), len(d.wanted)) for d, _ in members.values()]


def _limit(stack: Stack) -> int:
    return max(TRACE_BYTES, stack.base_bytes // 8)


def _tokens(members: Mapping[int, tuple[Drawn, ObjectiveSpec]], pad_id: int, stack: Stack) -> Tokens:
    rows = [MemberRows(slot=slot, rows=d.rows, wanted=d.wanted) for slot, (d, _) in members.items()]
    return tokens_of(rows, pad_id, device=stack.device)


def _parts(members: Mapping[int, tuple[Drawn, ObjectiveSpec]]) -> list[tuple[int, slice]]:
    """Each member's slice of the tokens that were asked for."""
    parts, first = [], 0
    for slot, (drawn, _) in members.items():
        parts.append((slot, slice(first, first + len(drawn.target_K))))
        first += len(drawn.target_K)
    return parts


def _sum(values: Sequence[float]) -> float:
    return math.fsum(values) if all(map(math.isfinite, values)) else math.nan


def _mean(values: Sequence[float], shares: Sequence[float]) -> float:
    return _sum([v * s for v, s in zip(values, shares, strict=True)])
