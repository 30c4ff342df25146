"""Rollouts of many members: one walk over all their trees of prefixes, one forward for what they wait for.

A member's trees, and the forwards that grow them, are those that it has without mates
(:mod:`trainers.decoding.tree`): its rows meet unknown prefixes in an order that its own draws decide.

Shapes: R rows of all members, V vocabulary.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sweeps.spec import SamplingSpec
from trainers.decoding import Completion, DecodeRequest
from trainers.decoding.sampler import Sampler
from trainers.decoding.tree import NODE_BYTES, Tree, walk
from trainers.packs.tokens import MemberRows, Tokens, in_parts, num_tokens, tokens_of


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What one member wants drawn."""

    slot: int
    request: DecodeRequest
    """With exactly one sampler."""
    drafts: Sequence[tuple[int, Completion]]
    """(prompt, completion) pairs likely to be drawn, or none."""


def tree_bytes(sampling: SamplingSpec, vocab_size: int) -> int:
    """What a member's trees take at most: a node for each token drawn."""
    return sampling.num_rollouts * sampling.max_new_tokens * vocab_size * NODE_BYTES


def draw_together(
    logits: Callable[[Tokens], Tensor],
    drawings: Sequence[Drawing],
    pad_id: int,
    most_tokens: int,
    device: torch.device | None = None,
) -> list[list[Completion]]:
    """Draw each member's completions, in row order.

    Args:
        logits: The members' forward.
        drawings: In ascending order of their slots; of one vocabulary, one limit and the same stop ids.
        pad_id: Filler after a row's end.
        most_tokens: Of one forward, unless a single member has more.
        device: Where the forward is computed; ``None`` for the processor.
    """
    prompts = [prompt for drawing in drawings for prompt in drawing.request.prompts]
    member_of_prompt = np.repeat(np.arange(len(drawings)), [len(d.request.prompts) for d in drawings])
    first_prompt = np.searchsorted(member_of_prompt, np.arange(len(drawings)))
    prompt_of_row = [f + d.request.prompt_of_row for f, d in zip(first_prompt, drawings, strict=True)]
    together = dataclasses.replace(
        drawings[0].request,
        prompts=prompts,
        prompt_of_row=np.concatenate(prompt_of_row),
        uniforms=lambda position: np.concatenate([d.request.uniforms(position) for d in drawings]),
    )
    tree = Tree(together)
    wanted: list[tuple[int, Completion]] = []
    for first, drawing in zip(first_prompt.tolist(), drawings, strict=True):
        own = [(prompt, path[:-1]) for prompt, path in drawing.drafts]
        own = own or [(prompt, ()) for prompt in range(len(drawing.request.prompts))]
        wanted += [(first + prompt, path) for prompt, path in own]
    learning = _Learning(
        logits, drawings, tree, member_of_prompt.tolist(), prompts, pad_id, most_tokens, device
    )
    drawn = walk(tree, together, wanted, learning.learn)
    ends = np.cumsum([len(d.request.prompt_of_row) for d in drawings]).tolist()
    return [drawn[start:stop] for start, stop in zip([0, *ends], ends, strict=False)]


class _Learning:
    """Makes distributions known."""

    def __init__(
        self,
        logits: Callable[[Tokens], Tensor],
        drawings: Sequence[Drawing],
        tree: Tree,
        member_of_prompt: Sequence[int],
        prompts: Sequence[Sequence[int]],
        pad_id: int,
        most_tokens: int,
        device: torch.device | None,
    ) -> None:
        self._most_tokens, self._device = most_tokens, device
        self._logits, self._drawings, self._tree, self._pad_id = logits, drawings, tree, pad_id
        self._member_of_prompt, self._prompts = member_of_prompt, prompts
        self._samplers: dict[Sampler, list[int]] = {}
        for member, drawing in enumerate(drawings):
            [sampler] = drawing.request.samplers
            self._samplers.setdefault(sampler, []).append(member)

    def learn(self, wanted: Sequence[tuple[int, Completion]]) -> None:
        """Make the distributions along each wanted path known, by one forward over all of them."""
        tree, nodes = self._tree, list[int]()
        rows: dict[int, list[list[int]]] = {}
        new: dict[int, list[tuple[int, int]]] = {}
        for prompt, path in wanted:
            member = self._member_of_prompt[prompt]
            own, asked = rows.setdefault(member, []), new.setdefault(member, [])
            own.append([*self._prompts[prompt], *path])
            first = len(self._prompts[prompt]) - 1
            for offset, node in enumerate(tree.trail(prompt, path)):
                if not tree.known_N[node]:
                    tree.known_N[node] = True
                    nodes.append(node)
                    asked.append((len(own) - 1, first + offset))
        if not nodes:
            return
        members = [
            MemberRows(slot=self._drawings[member].slot, rows=rows[member], wanted=asked)
            for member, asked in new.items()
            if asked
        ]
        sizes = [num_tokens(member.rows) for member in members]
        parts = [
            tokens_of(members[part], self._pad_id, device=self._device)
            for part in in_parts(sizes, self._most_tokens)
        ]
        logits_KV = torch.cat([self._logits(tokens)[tokens.asked_K] for tokens in parts])
        member_K = np.repeat(list(new), [len(asked) for asked in new.values()])
        tree.cumulative_NV[nodes] = self._cumulative(logits_KV, nodes, member_K)

    def _cumulative(self, logits_KV: Tensor, nodes: Sequence[int], member_K: np.ndarray) -> np.ndarray:
        if len(self._samplers) == 1:
            [sampler] = self._samplers
            return sampler.cumulative(logits_KV, self._seen(sampler, nodes, logits_KV)).cpu().numpy()
        found_KV = np.empty(logits_KV.shape)
        for sampler, members in self._samplers.items():
            own = np.flatnonzero(np.isin(member_K, members))
            if len(own):
                seen_KV = self._seen(sampler, [nodes[k] for k in own.tolist()], logits_KV)
                found_KV[own] = sampler.cumulative(logits_KV[torch.from_numpy(own)], seen_KV).cpu().numpy()
        return found_KV

    def _seen(self, sampler: Sampler, nodes: Sequence[int], logits_KV: Tensor) -> Tensor | None:
        """Tokens of each node's prefix, its prompt included, where a penalty asks for them."""
        if sampler.repetition_penalty == 1.0:
            return None
        seen_KV = logits_KV.new_zeros(len(nodes), logits_KV.shape[1], dtype=torch.bool)
        for k, node in enumerate(nodes):
            seen_KV[k, [*self._prompts[self._tree.prompt_of[node]], *self._tree.paths[node]]] = True
        return seen_KV
