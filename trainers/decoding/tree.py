"""Decoding as a walk on a tree of distinct prefixes, with drafts verified in one forward.

Short runs at low temperature draw the same few completions again and again, step after step. So the tree is
first grown along *drafts* (the previous step's distinct rollouts) by a single teacher-forced forward; then
every row walks down the tree with its own noise. Rows that step off it wait at unknown prefixes, which the
next forward makes known. The result is the same as token-by-token sampling: drafts save forwards, never
change a draw.

Shapes: R rows, M of them walking, V vocabulary, N nodes (distinct prefixes), W rows of one forward.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from trainers.decoding import Completion, DecodeRequest

_UNKNOWN = -1

NODE_BYTES = 16
"""What a tree keeps of a node for each token of the vocabulary: its cumulative probability and its child."""


class Tree:
    """Distinct prefixes met so far; node k < number of prompts is prompt k's empty completion."""

    def __init__(self, request: DecodeRequest) -> None:
        self.paths: list[Completion] = [()] * len(request.prompts)
        self.prompt_of: list[int] = list(range(len(request.prompts)))
        capacity = 64 + len(request.prompts)
        self.known_N = np.zeros(capacity, dtype=bool)
        self.cumulative_NV = np.empty((capacity, request.vocab_size))
        self.child_NV = np.full((capacity, request.vocab_size), _UNKNOWN, dtype=np.int64)

    def child(self, node: int, token: int) -> int:
        child = int(self.child_NV[node, token])
        if child != _UNKNOWN:
            return child
        new = len(self.paths)
        if new == len(self.known_N):
            self._grow()
        self.child_NV[node, token] = new
        self.paths.append((*self.paths[node], token))
        self.prompt_of.append(self.prompt_of[node])
        return new

    def children(self, node_M: np.ndarray, token_M: np.ndarray) -> np.ndarray:
        """The node one token further for many rows at once, made in row order where it does not exist yet."""
        found_M = self.child_NV[node_M, token_M]
        for row in np.flatnonzero(found_M == _UNKNOWN).tolist():
            found_M[row] = self.child(int(node_M[row]), int(token_M[row]))
        return found_M

    def _grow(self) -> None:
        self.known_N = np.concatenate([self.known_N, np.zeros_like(self.known_N)])
        self.cumulative_NV = np.concatenate([self.cumulative_NV, np.empty_like(self.cumulative_NV)])
        self.child_NV = np.concatenate([self.child_NV, np.full_like(self.child_NV, _UNKNOWN)])

    def trail(self, prompt: int, path: Completion) -> list[int]:
        """Nodes of every prefix of ``path``, the empty one first and the whole of it last."""
        nodes = [prompt]
        for token in path:
            nodes.append(self.child(nodes[-1], token))
        return nodes


def decode_tree(
    module: torch.nn.Module,
    request: DecodeRequest,
    *,
    drafts: Sequence[tuple[int, Completion]] = (),
    pad_id: int = 0,
    any_rank: Callable[[bool], bool] = bool,
) -> list[Completion]:
    """Draw one completion per row.

    Args:
        module: Causal language model, called without a cache on right-padded rows.
        request: What to draw; it must name exactly one sampler.
        drafts: (prompt index, completion) pairs likely to be drawn.
        pad_id: Filler after a row's end; causal attention never looks at it.
        any_rank: Whether the answer is yes on any rank, so that all ranks make equally many forwards.

    Returns:
        R completions, in row order.
    """
    tree = Tree(request)
    # A draft's last token ends it, so its whole path needs no distribution; its proper prefixes do.
    wanted = [(prompt, path[:-1]) for prompt, path in drafts] or [
        (k, ()) for k in range(len(request.prompts))
    ]

    def learn(unknown: Sequence[tuple[int, Completion]]) -> None:
        _learn(module, tree, request, unknown or [(0, ())], pad_id)

    return walk(tree, request, wanted, learn, any_rank)


def walk(
    tree: Tree,
    request: DecodeRequest,
    wanted: Sequence[tuple[int, Completion]],
    learn: Callable[[Sequence[tuple[int, Completion]]], None],
    any_rank: Callable[[bool], bool] = bool,
) -> list[Completion]:
    """Have every row walk down the tree with its own noise, and return where each ended.

    Args:
        wanted: (prompt, path) to be known before the first step.
        learn: Makes the distributions along such paths known.
    """
    rows_R = np.arange(len(request.prompt_of_row))
    node_R = request.prompt_of_row.copy()
    depth_R = np.zeros(len(rows_R), dtype=np.int64)
    open_R = np.ones(len(rows_R), dtype=bool)
    uniforms_DR = np.empty((0, len(rows_R)))
    ends_V = np.isin(np.arange(request.vocab_size), request.eos_ids)
    while True:
        learn(wanted)
        walking = rows_R[open_R]
        while len(walking := walking[tree.known_N[node_R[walking]]]):
            while len(uniforms_DR) <= depth_R[walking].max():
                uniforms_DR = np.vstack([uniforms_DR, request.uniforms(len(uniforms_DR))])
            cumulative = tree.cumulative_NV[node_R[walking]]
            threshold = uniforms_DR[depth_R[walking], walking] * cumulative[:, -1]
            token = np.minimum((cumulative <= threshold[:, None]).sum(-1), request.vocab_size - 1)
            node_R[walking] = tree.children(node_R[walking], token)
            depth_R[walking] += 1
            ended = ends_V[token] | (depth_R[walking] >= request.max_new_tokens)
            open_R[walking[ended]] = False
            walking = walking[~ended]
        wanted = [(tree.prompt_of[n], tree.paths[n]) for n in dict.fromkeys(node_R[open_R].tolist())]
        if not any_rank(bool(wanted)):
            return [tree.paths[n] for n in node_R.tolist()]


def _learn(
    module: torch.nn.Module,
    tree: Tree,
    request: DecodeRequest,
    wanted: Sequence[tuple[int, Completion]],
    pad_id: int,
) -> None:
    """Make the distributions along each wanted path known, by one forward over all of them."""
    [sampler] = request.samplers
    sequences = [[*request.prompts[prompt], *path] for prompt, path in wanted]
    width = max(map(len, sequences))
    shortest = min(len(request.prompts[prompt]) for prompt, _ in wanted)
    device = next(module.parameters()).device
    ids_WT = torch.tensor([s + [pad_id] * (width - len(s)) for s in sequences], device=device)
    # Logits from the last token of the shortest prompt on: earlier positions predict prompt tokens only.
    logits_WTV = module(input_ids=ids_WT, use_cache=False, logits_to_keep=width - shortest + 1).logits

    nodes, rows, positions = [], [], []
    for row, (prompt, path) in enumerate(wanted):
        first = len(request.prompts[prompt]) - shortest
        for offset, node in enumerate(tree.trail(prompt, path)):
            if not tree.known_N[node]:
                tree.known_N[node] = True
                nodes.append(node)
                rows.append(row)
                positions.append(first + offset)
    if not nodes:
        return
    seen_NV = None
    if sampler.repetition_penalty != 1.0:
        seen_NV = torch.zeros(len(nodes), request.vocab_size, dtype=torch.bool, device=device)
        for k, node in enumerate(nodes):
            seen_NV[k, [*request.prompts[tree.prompt_of[node]], *tree.paths[node]]] = True
    cumulative_NV = sampler.cumulative(logits_WTV[rows, positions], seen_NV)
    tree.cumulative_NV[nodes] = cumulative_NV.cpu().numpy()
