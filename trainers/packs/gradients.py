"""From the members' experience to their gradients, and to what their forwards tell.

Shapes: K positions with logits of all members, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from sweeps.spec import ObjectiveSpec
from trainers.objectives.likelihood import token_statistics
from trainers.packs.engine import PackEngine
from trainers.packs.experience import Drawn, Measured, PackExperience, Policy, drawn_in_parts, joined
from trainers.packs.loss import entropies, exponential, terms, weighed
from trainers.packs.stack import Stack
from trainers.packs.tokens import MemberRows, Tokens, in_parts, num_tokens, tokens_of
from trainers.step.update import Seen

Training = Mapping[int, tuple[PackExperience, ObjectiveSpec]]
"""Slot, in ascending order, to what its member trains on and by which objective."""

_Rows = Mapping[int, tuple[Drawn, Any]]
"""Slot to a member's rows, beside what is done with them."""


def measure(
    stack: Stack,
    members: Mapping[int, tuple[Drawn, float]],
    pad_id: int,
    *,
    of_base: bool,
    micro_batch: int = 0,
) -> dict[int, Measured]:
    """What members, or the untrained model, think of the members' rollouts or given completions.

    Args:
        members: Slot, in ascending order, to the rows and the temperature.
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
    stack: Stack, members: Mapping[int, tuple[Drawn, float]], pad_id: int, *, of_base: bool
) -> dict[int, Measured]:
    tokens = _tokens(members, pad_id, stack)
    logits_KV = stack.logits(tokens, of_base=of_base)[tokens.asked_K]
    found = {}
    for slot, own in _parts(members):
        drawn, temperature = members[slot]
        target = torch.tensor(drawn.target_K, device=stack.device)
        told = token_statistics(logits_KV[own], target, temperature)
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


def gradients_of(engine: PackEngine, members: Training, pad_id: int) -> Iterator[dict[int, Seen]]:
    """Compute these members' gradients, as many at once as memory is set apart for; yield what each of those
    saw, in the order of the rows that their gradients are held in until the next are asked for.
    """
    stack, slots = engine.stack, list(members)
    kept = [
        max(_kept(stack, {k: (part, None) for k, part in enumerate(experience.micro_batches)}))
        for experience, _ in members.values()
    ]
    for part in in_parts(kept, stack.at_once(_limit(stack))):
        own = {slot: members[slot] for slot in slots[part]}
        held = {slot: row for row, slot in enumerate(own)}
        seen: dict[int, list[Seen]] = {slot: [] for slot in own}
        for number in range(max(len(e.micro_batches) for e, _ in own.values())):
            now = {
                slot: (e.micro_batches[number], objective)
                for slot, (e, objective) in own.items()
                if number < len(e.micro_batches)
            }
            for slot, seen_now in _gradients(engine, now, pad_id, held, add=number > 0).items():
                seen[slot].append(seen_now)
        yield {slot: _of_step(s, own[slot][0].sequence_loss) for slot, s in seen.items()}


def _of_step(seen: Sequence[Seen], sequence_loss: float) -> Seen:
    """What all micro batches of a step saw."""
    if len(seen) == 1 and not sequence_loss:
        return seen[0]

    def total(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return _sum(known) if known else None

    return Seen(
        loss=_sum([*(s.loss for s in seen), sequence_loss]),
        entropy_nats=_sum([s.entropy_nats for s in seen]),
        kl_nats=total([s.kl_nats for s in seen]),
        nll_nats=total([s.nll_nats for s in seen]),
    )


def _gradients(
    engine: PackEngine, members: Training, pad_id: int, held: Mapping[int, int], *, add: bool
) -> dict[int, Seen]:
    device = engine.stack.device
    tokens = _tokens(members, pad_id, engine.stack, held)
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
            told.extend((loss_K.detach(), plain_K, *torch.zeros(2, len(plain_K), device=device)))
            return loss_K.sum()
        others, own = policies.others, policies.own
        other_K = weighed(logits_KV[others], temperature_K[others], entropy_K[others])
        log_p_K, h_K = terms(logits_KV[own], policies.temperatures(temperature_K[own]), policies.target_K)
        own_K, divergence_K = policies.loss(log_p_K, h_K * entropy_K[own])
        values_4K = plain_K.new_zeros(4, len(plain_K))
        values_4K[0, others], values_4K[0, own] = other_K.detach(), own_K.detach()
        values_4K[1], values_4K[2, own], values_4K[3, own] = plain_K, divergence_K, log_p_K.detach()
        told.extend(values_4K)
        return other_K.sum() + own_K.sum() + policies.by_sequence(log_p_K)

    engine.accumulate(tokens, loss, add=add)
    lost, plain, apart, log_p = (values[tokens.asked_K].double().tolist() for values in told)
    seen = {}
    for slot, own in _parts(members):
        experience, objective = members[slot]
        in_loss = objective.diverges_in_loss
        given = experience.policy and experience.policy.given
        seen[slot] = Seen(
            loss=_sum(lost[own]),
            entropy_nats=_mean(plain[own], experience.share_K),
            kl_nats=_mean(apart[own], experience.share_K) if in_loss else None,
            nll_nats=-_mean(log_p[own], given.share_K) if given and objective.nll_weight else None,
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
    given: _Completions | None
    """Where members have given completions."""
    holders: Sequence[tuple[PackExperience, slice]]
    """Whose tokens they are, as slices of the other fields."""

    @classmethod
    def of(cls, members: Training, tokens: Tokens) -> _Policies | None:
        own: list[int] = []
        holders: list[tuple[PackExperience, slice]] = []
        objectives: list[ObjectiveSpec] = []
        has_ratio: list[bool] = []
        for slot, part in _parts(members):
            experience, objective = members[slot]
            if (policy := experience.policy) is not None:
                num = len(experience.target_K)
                holders.append((experience, slice(len(own), len(own) + num)))
                objectives += [objective] * num
                is_given_K = policy.given.is_given_K if policy.given else [False] * num
                by_ratio = objective.is_policy_gradient and objective.has_ratio
                has_ratio += [by_ratio and not is_given for is_given in is_given_K]
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
            has_ratio_K=torch.tensor(has_ratio, device=device),
            low_K=torch.tensor([1 - o.clip_low for o in objectives], device=device),
            high_K=torch.tensor([1 + o.clip_high for o in objectives], device=device),
            given=_Completions.of([p for _, p in policies], device),
            holders=holders,
        )

    def temperatures(self, temperature_K: Tensor) -> Tensor:
        """Those of the members' objectives; 1 for given completions, which were not drawn at any other."""
        return temperature_K if self.given is None else temperature_K.masked_fill(self.given.is_given_K, 1.0)

    def by_sequence(self, log_p_K: Tensor) -> Tensor | float:
        """What has the gradient of the losses of sequences."""
        return 0.0 if self.given is None else (self.given.slope_K * log_p_K).sum()

    def loss(self, log_p_K: Tensor, entropy_K: Tensor) -> tuple[Tensor, Tensor]:
        """Each token's loss, and its divergence from the reference; see :mod:`trainers.objectives.policy`."""
        old_K = log_p_K.detach().clone()
        for experience, part in self.holders:
            assert experience.policy is not None
            if experience.policy.old_K is None:
                experience.policy.old_K = old_K[part].clone()
            old_K[part] = experience.policy.old_K
        ratio_K = exponential((log_p_K - old_K).where(self.has_ratio_K, 0.0))
        clipped_K = self.gain_K * ratio_K.minimum(self.high_K) + self.cost_K * ratio_K.maximum(self.low_K)
        plain_K = (self.gain_K + self.cost_K) * log_p_K
        # Where nothing weighs it, an exponential may be infinite, and would make the zero weight a NaN.
        apart_K = (self.reference_K - log_p_K).where(self.divergence_K != 0, 0.0)
        divergence_K = exponential(apart_K) - apart_K - 1
        loss_K = entropy_K - torch.where(self.has_ratio_K, clipped_K, plain_K)
        if self.given is not None:
            loss_K = loss_K - self.given.nll_K * log_p_K
        return loss_K + self.divergence_K * divergence_K, divergence_K.detach()


@dataclass(frozen=True, kw_only=True)
class _Completions:
    """What given completions weigh among the same tokens."""

    is_given_K: Tensor
    nll_K: Tensor
    slope_K: Tensor

    @classmethod
    def of(cls, policies: Sequence[Policy], device: torch.device) -> _Completions | None:
        if not any(policy.given for policy in policies):
            return None
        columns: dict[str, list[float]] = {"is_given_K": [], "nll_K": [], "slope_K": []}
        for policy in policies:
            for name, column in columns.items():
                column += getattr(policy.given, name) if policy.given else [0.0] * len(policy.gain_K)
        nll_K, slope_K = (torch.tensor(columns[name], device=device) for name in ("nll_K", "slope_K"))
        is_given_K = torch.tensor(columns["is_given_K"], dtype=torch.bool, device=device)
        return cls(is_given_K=is_given_K, nll_K=nll_K, slope_K=slope_K)


def _kept(stack: Stack, members: _Rows) -> list[int]:
    """What a forward keeps of each of these members."""
    return [stack.shape.trace_bytes(num_tokens(d.rows), len(d.wanted)) for d, _ in members.values()]


def _limit(stack: Stack) -> int:
    return max(TRACE_BYTES, stack.base_bytes // 8)


def _tokens(
    members: _Rows, pad_id: int, stack: Stack, held: Mapping[int, int] = MappingProxyType({})
) -> Tokens:
    rows = [
        MemberRows(slot=slot, rows=d.rows, wanted=d.wanted, held=held.get(slot))
        for slot, (d, _) in members.items()
    ]
    return tokens_of(rows, pad_id, device=stack.device)


def _parts(members: _Rows) -> list[tuple[int, slice]]:
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
