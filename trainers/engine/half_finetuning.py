"""Half fine-tuning (HFT, arXiv 2404.18466): each round trains a fresh random half of the weights.
:mod:`trainers.engine.freezing` keeps the other half still.

In every layer half of the attention matrices, half of the feed-forward matrices and half of the norms train;
of an odd number, one more or one less, by chance. A bias goes with its matrix. Embeddings, the head and
whatever has no category always train. What does not train keeps its bits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from trainers.noise import Stream, uniforms

_LAYER = re.compile(r"\.(\d+)\.")

_CATEGORIES = (
    ("norm", re.compile(r"(^|[._])(norm|ln)|norm($|[._])", re.IGNORECASE)),
    ("attention", re.compile(r"attn|attention")),
    ("feed_forward", re.compile(r"mlp|ffn|feed_forward")),
)
"""Category of a module by its name; the first that fits counts."""


def frozen_half(names: Iterable[str], seed: int, round_number: int) -> frozenset[str]:
    """Return the parameters that keep still in a round.

    Args:
        round_number: rounds before this one.
    """
    groups: dict[tuple[str, str], dict[str, list[str]]] = {}
    for name in names:
        module = name.rpartition(".")[0]
        category = _category(module)
        if category:
            layer = _LAYER.search(name)
            of_layer = groups.setdefault((layer[1] if layer else "", category), {})
            of_layer.setdefault(module, []).append(name)
    still: set[str] = set()
    for number, modules in enumerate(groups.values()):
        draws = uniforms(seed, Stream.HALF, round_number, number, len(modules) + 1)
        num = (len(modules) + int(draws[-1] < 0.5)) // 2
        chosen = np.argsort(draws[:-1], kind="stable")[:num]
        parameters = list(modules.values())
        still.update(name for k in chosen.tolist() for name in parameters[k])
    return frozenset(still)


def _category(module: str) -> str | None:
    last_name = module.rpartition(".")[2]
    for name, pattern in _CATEGORIES:
        if pattern.search(last_name if name == "norm" else module):
            return name
    return None
