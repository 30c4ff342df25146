"""A stack whose members train low-rank additions to weights that all of them share (LoRA).

The model lies in memory once. Additions of several ranks share a stack: each is filled up with zeros to a
multiple that follows from its own rank (:func:`sweeps.sharing.packs.packed_rank`). What a member does not add
to is zero too, and stays so: neither its gradient nor its step is anything else. So members may differ in
rank, scale and targets.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Set
from functools import partial

import torch
from torch import Tensor, nn

from sweeps.sharing.packs import PACKED_TARGETS
from sweeps.spec import ModelSpec, RunSpec
from trainers.engine.gang import Gang
from trainers.model.adapter import DOWN, UP, fresh_adapter
from trainers.packs.architecture import NotPackable, Piece, Shape, blocks, pieces
from trainers.packs.matrices import Matrices, shared_matrices
from trainers.packs.projection import Addition, Additions, Blocks
from trainers.packs.sharded import ShardedBlocks, Walk
from trainers.packs.stack import Stack


class NoSuchLayer(NotPackable):
    """Why a run is not packed though others of its model may be: it adds to what the model has not."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """A linear layer of the model."""

    name: str
    """As the model calls it."""
    block: str
    outputs: int
    inputs: int

    @property
    def target(self) -> str:
        return self.name.rpartition(".")[2]


def places(shape: Shape) -> Iterator[Place]:
    """Yield the layers that may be added to, each a block by itself, in the order of the model."""
    sizes = dict(blocks(shape))
    for name, piece in pieces(shape):
        layer = name.removesuffix(".weight")
        if layer != name and layer.endswith(PACKED_TARGETS):
            yield Place(name=layer, block=piece.block, outputs=piece.rows, inputs=sizes[piece.block][1])


def targets_of(model: ModelSpec) -> tuple[str, ...]:
    """Layers that a packed run adds to; none where it trains every weight."""
    return () if model.adapter == "none" else model.adapter_targets or PACKED_TARGETS


class AdapterStack(Stack):
    """Members that train additions; see :class:`trainers.packs.stack.Stack`."""

    fused = False

    def __init__(self, model: nn.Module, width: int, *, rank: int, targets: Set[str]) -> None:
        """Build a stack.

        Args:
            rank: Of every addition, its own filled up.
            targets: Layers that a member of it may add to.
        """
        self._rank, self.targets = rank, frozenset(targets)
        self._spec_of_slot: dict[int, ModelSpec] = {}
        super().__init__(model, width)

    def _begin(self) -> None:
        self.scale = torch.ones(self.width, device=self.device)
        self._places = {place.name: place for place in places(self.shape)}
        self._additions: dict[str, Addition] = {}
        for place in self._places.values():
            if place.target not in self.targets:
                continue
            down, up = (self._key(place.name, end) for end in (DOWN, UP))
            self._train(down, torch.zeros(self.width, self._rank, place.inputs, device=self.device))
            self._train(up, torch.zeros(self.width, place.outputs, self._rank, device=self.device))
            self._additions[place.block] = Addition(
                down=self.trained[down],
                up=self.trained[up],
                scale=self.scale,
                by_down=self.gradients[down],
                by_up=self.gradients[up],
            )
        if not self._additions:
            raise NoSuchLayer(f"the model has no layer that is called {' or '.join(sorted(self.targets))}")
        self._weights = self._base_of_all()

    @staticmethod
    def _key(layer: str, end: str) -> str:
        """A parameter's name may hold no full stop."""
        return (layer + end).replace(".", "/")

    @property
    def addable(self) -> frozenset[str]:
        return frozenset(place.target for place in self._places.values())

    @property
    def layout(self) -> dict[str, int]:
        return {"pack_rank": self._rank}

    def at_once(self, limit: int) -> int:
        """Half of it: beside a model that all share, a forward is much of a pack's memory."""
        return super().at_once(limit // 2)

    @property
    def weights(self) -> Blocks:
        return self._weights

    @property
    def additions(self) -> Additions:
        return self._additions

    def matrices(self, slot: int | None) -> Matrices:
        additions = {} if slot is None else self._additions
        walk = partial(self.walk, Walk.FORWARD)
        return shared_matrices(self.base, additions, slot or 0, self.shape, walk)

    def shard(self, gang: Gang) -> None:
        """Keep a part of every matrix of the model; every rank must call it."""
        self.base = ShardedBlocks(self.base, self.shape, gang)
        self._weights = self._base_of_all()

    def trained_by(self, slot: int) -> list[str]:
        model = self._spec_of_slot.get(slot)
        targets = self.targets if model is None else targets_of(model)
        own = [place.name for place in self._places.values() if place.target in targets]
        return [self._key(name, end) for name in own for end in (DOWN, UP)]

    def start(self, slot: int, spec: RunSpec) -> None:
        self.reset(slot)
        model = self._spec_of_slot[slot] = spec.model
        self.scale[slot] = model.adapter_alpha / model.adapter_rank
        for name, values in fresh_adapter(self._shapes_of(model), spec.seed).items():
            into = self.trained[name.replace(".", "/")][slot]
            into[: values.shape[0], : values.shape[1]] = values

    def _shapes_of(self, model: ModelSpec) -> dict[str, torch.Size]:
        """Names and shapes of a run's additions, in the order of the model."""
        shapes, rank, targets = {}, model.adapter_rank, targets_of(model)
        for place in self._places.values():
            if place.target in targets:
                shapes[place.name + DOWN] = torch.Size((rank, place.inputs))
                shapes[place.name + UP] = torch.Size((place.outputs, rank))
        return shapes

    def reset(self, slot: int) -> None:
        self._spec_of_slot.pop(slot, None)
        self.scale[slot] = 1.0
        for own in self.trained.values():
            own[slot] = 0.0

    def copy(self, slot: int, to: int) -> None:
        super().copy(slot, to)
        self.scale[to] = self.scale[slot]
        self._spec_of_slot[to] = self._spec_of_slot[slot]

    def load(self, slot: int, weights: Mapping[str, Tensor]) -> None:
        raise TypeError("a member's weights are shared; its additions start from its seed")

    def named(self, slot: int) -> dict[str, Tensor]:
        """Copies of a member's weights: the model's, and its additions in the shapes of a run by itself."""
        shapes = self._shapes_of(self._spec_of_slot[slot])
        added = {n: self.trained[n.replace(".", "/")][slot, : s[0], : s[1]] for n, s in shapes.items()}
        with self.walk(Walk.FORWARD):  # the pieces come in the order of the model
            model = {name: self._part(piece).clone() for name, piece in self._pieces.items()}
        return model | {name: own.clone() for name, own in added.items()}

    def _part(self, piece: Piece) -> Tensor:
        return self.base[piece.block][0, piece.first : piece.first + piece.rows]
