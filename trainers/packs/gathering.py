"""What the members' next steps train on: rollouts, given completions, and what those are worth.

Every member's is its own, but for what the untrained model draws, which all that agree on it share.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from sweeps.sharing.stages import rollout_key
from trainers.decoding import Completion, DecodeRequest, choose_decoder
from trainers.model.base_model import BaseModel
from trainers.packs.cached import decode_in_parts, decode_rows
from trainers.packs.experience import (
    Drawn,
    Measured,
    asks_for_scores,
    drawn_as_rows,
    experience_of,
    in_micro_batches,
)
from trainers.packs.given import beside_rollouts, compared_by, given_as_rows, given_experience, worth_of
from trainers.packs.gradients import measure
from trainers.packs.matrices import Matrices
from trainers.packs.members import Member
from trainers.packs.rollouts import Drawing, draw_together, tree_bytes
from trainers.packs.stack import Stack
from trainers.packs.tokens import TILE, in_parts
from trainers.packs.warm import Warm
from trainers.step.given import TEMPERATURE
from trainers.step.rollout import Rollouts, merge, prompts_of_rollouts, rollout_request

FORWARD_BYTES = 4 * 2**20
"""What a layer of a forward without gradients may compute at once."""

TREE_BYTES = 256 * 2**20
"""What the trees of rollouts that are walked together may take, were no two rollouts alike; a single member's
may be larger.
"""


class Gathering:
    """Gathers it for a pack's members.

    Args:
        apart: Does what concerns some runs alone; see ``Pack``.
    """

    def __init__(
        self,
        warm: Warm,
        stack: Stack,
        base: BaseModel,
        apart: Callable[[list[int], Callable[[], None]], None],
    ) -> None:
        self._warm, self._stack, self._base, self._apart = warm, stack, base, apart

    def gather(self, members: Sequence[Member]) -> None:
        """Settle what the members' next steps train on."""
        for member in members:
            self._apart(member.runs, partial(self._turn, member))
        living = [member for member in members if member.runs]
        self._settle(living, self._draw([m for m in living if m.spec.objective.draws_rollouts]))

    def _turn(self, member: Member) -> None:
        """Turn to the prompts of a member's next step."""
        now = member.take_up()
        rows = [len(s.ids) for s in now.given]
        rows += [len(ids) + member.spec.sampling.max_new_tokens for ids in now.ids]
        self._stack.reach(max(rows) + TILE)

    def _draw(self, members: Sequence[Member]) -> Mapping[int, Rollouts]:
        """Draw the members' rollouts; at the base model, once for all that agree on them."""
        drawn: dict[int, Rollouts] = {}
        first: dict[str, list[Member]] = {}
        for member in members:
            if member.step == 1:
                first.setdefault(rollout_key(member.of_step), []).append(member)
        known = {key: self._warm.first_rollouts(key) for key in first}
        spared = {m.slot for key, alike in first.items() for m in (alike if known[key] else alike[1:])}
        drawing = [m for m in members if m.slot not in spared]
        in_trees = [m for m in drawing if self._decoder_of(m) == "tree"]
        one_by_one = [m for m in drawing if self._decoder_of(m) != "tree"]
        completions = {m.slot: self._decoded(m, self._request(m)) for m in one_by_one}
        trees = [tree_bytes(m.spec.sampling, self._stack.shape.vocabulary) for m in in_trees]
        for part in in_parts(trees, TREE_BYTES):
            walked = draw_together(
                self._stack.logits,
                [self._drawing(m) for m in in_trees[part]],
                self._base.pad_id,
                most_tokens=self._stack.at_once(FORWARD_BYTES // self._stack.shape.layer_bytes),
                device=self._stack.device,
            )
            completions |= {m.slot: own for m, own in zip(in_trees[part], walked, strict=True)}
        for member in drawing:
            prompts = prompts_of_rollouts(member.of_step, len(member.ids))
            drawn[member.slot] = merge(prompts.tolist(), completions[member.slot])
        for key, alike in first.items():
            rollouts = known[key] or drawn[alike[0].slot]
            self._warm.remember_first_rollouts(key, rollouts)
            drawn |= {m.slot: rollouts for m in alike}
        return drawn

    def _settle(self, members: Sequence[Member], drawn: Mapping[int, Rollouts]) -> None:
        """Settle what rollouts and given completions are worth, by forwards of those whose objectives ask for
        some.
        """
        specs = {m.slot: m.spec for m in members}
        rows = {
            m.slot: (drawn_as_rows(drawn[m.slot], m.ids), m.spec.objective.temperature)
            for m in members
            if m.slot in drawn
        }
        given = {
            m.slot: (given_as_rows(compared_by(m.spec.objective, m.given)), TEMPERATURE)
            for m in members
            if m.spec.objective.preference != "none"
        }
        asks = [slot for slot in rows if asks_for_scores(specs[slot])]
        compares = [slot for slot in rows if specs[slot].objective.kl_coef > 0]
        size = members[0].spec.engine.micro_batch if members else 0
        told = self._told(rows, asks, compares, size)
        compares = [slot for slot in given if specs[slot].objective.has_preference_reference]
        told_of_given = self._told(given, list(given), compares, size)
        for member in members:
            own, _ = rows.get(member.slot, (None, 0.0))
            seen = told.get(member.slot, Measured()), told_of_given.get(member.slot, Measured())
            self._apart(member.runs, partial(self._gather, member, own, *seen))

    def _told(
        self,
        rows: Mapping[int, tuple[Drawn, float]],
        by_policy: Sequence[int],
        by_base: Sequence[int],
        size: int,
    ) -> dict[int, Measured]:
        """What slots, and the untrained model, think of rows, ``size`` of a member's at once."""
        found: dict[int, Measured] = {}
        for slots, of_base in ((by_policy, False), (by_base, True)):
            if slots:
                own = {slot: rows[slot] for slot in slots}
                seen = measure(self._stack, own, self._base.pad_id, of_base=of_base, micro_batch=size)
                found |= {slot: found.get(slot, Measured()).beside(values) for slot, values in seen.items()}
        return found

    def _gather(self, member: Member, drawn: Drawn | None, told: Measured, told_of_given: Measured) -> None:
        objective, experience = member.spec.objective, None
        if drawn is not None:
            experience = experience_of(member.of_step, self._base, drawn, told, self._warm.rewards)
        if member.given:
            worth = worth_of(objective, member.given, told_of_given)
            given = given_experience(objective, member.given, worth)
            experience = given if experience is None else beside_rollouts(experience, given)
        assert experience is not None
        member.experience = in_micro_batches(experience, member.spec.engine.micro_batch)

    def _decoder_of(self, member: Member) -> str:
        return choose_decoder(
            member.spec.engine.decoder,
            prompt_tokens=max(map(len, member.ids)),
            max_new_tokens=member.spec.sampling.max_new_tokens,
            vocab_size=self._stack.shape.vocabulary,
        )

    def _request(self, member: Member) -> DecodeRequest:
        """What a member's next step draws."""
        vocabulary, step = self._stack.shape.vocabulary, member.step - 1
        prompts, gang = member.ids, self._warm.gang
        return rollout_request(member.of_step, self._base, prompts, vocabulary, step=step, gang=gang)

    def _drawing(self, member: Member) -> Drawing:
        alike = member.experience is not None and member.prompts.are_those_before(member.step)
        before = member.experience.rollouts if member.experience and alike else None
        drafts = list(zip(before.prompt, before.completion, strict=True)) if before else []
        return Drawing(slot=member.slot, request=self._request(member), drafts=drafts)

    def _decoded(self, member: Member, request: DecodeRequest) -> list[Completion]:
        """Completions by a member alone, whose rows are too long for trees."""
        matrices = self._stack.matrices(member.slot)
        decode = partial(self.decode, matrices)
        return decode_in_parts(decode, request, member.spec.engine.rollout_rows)

    def decode(self, matrices: Matrices, request: DecodeRequest) -> list[Completion]:
        stack = self._stack
        stack.reach(max(map(len, request.prompts)) + request.max_new_tokens)
        return decode_rows(matrices, stack.rotation, stack.shape, request, self._base.pad_id)
