"""The weights that a pack's members share, each rank holding a part of every matrix (ZeRO-3).

Ranks train different members, so they need the matrices at different moments. Whoever needs them begins a
*walk* over all of them, layer by layer; ranks agree before each on whose is next, and one that needs none, or
another kind, gathers along. Vectors are whole on every rank.

Shapes: P members, O and I widths of a matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from enum import IntEnum

import torch
import torch.distributed as dist
from torch import Tensor, nn

from trainers.deepspeed_internals import gathered
from trainers.engine.gang import Gang
from trainers.packs.architecture import Shape


class Walk(IntEnum):
    """In which order matrices are needed; of those that ranks ask for, the smallest goes first."""

    FORWARD = 1
    BACKWARD = 2
    DONE = 3
    """No walk: the rank's members have ended."""


class ShardedBlocks(Mapping[str, Tensor]):
    """The model's blocks as stacks of one; a matrix is there within a walk alone, until the next layer's."""

    def __init__(self, blocks: Mapping[str, Tensor], shape: Shape, gang: Gang) -> None:
        """Every rank calls it with the same blocks and keeps its share."""
        from deepspeed.runtime.zero import Init

        self._gang = gang
        self._blocks = dict(blocks)
        self._matrices = {
            name: nn.Parameter(own[0], requires_grad=False) for name, own in blocks.items() if own.dim() == 3
        }
        for name in self._matrices:
            del self._blocks[name]
        zero = {"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 3}}
        Init(module=nn.ParameterList(self._matrices.values()), config_dict_or_path=zero)
        self._names = list(blocks)
        layers = [self._of_layer(k) for k in range(shape.layers)]
        embed, head = [self._matrices["embed"]], [self._matrices[shape.head]]
        self._order = {
            Walk.FORWARD: [embed, *layers, head],
            Walk.BACKWARD: [head, *reversed(layers)],
        }
        self._stops: list[list[nn.Parameter]] = []
        """Those of the walk that are still to come."""
        self._held = ExitStack()
        self._here: Sequence[nn.Parameter] = ()

    def _of_layer(self, number: int) -> list[nn.Parameter]:
        return [p for name, p in self._matrices.items() if name.rpartition("_")[2] == str(number)]

    def __getitem__(self, name: str) -> Tensor:
        if (own := self._blocks.get(name)) is not None:
            return own
        matrix = self._matrices[name]
        while not any(matrix is p for p in self._here):
            if not self._stops:
                raise RuntimeError(f"{name} is asked for out of its turn")
            self._go_on()
        return matrix.data[None]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def _go_on(self) -> None:
        """Give back what is gathered and gather the next layer."""
        self._held.close()
        self._here = self._stops.pop(0)
        self._held.enter_context(gathered(self._here))

    def _agree(self, wanted: Walk) -> Walk:
        """Which walk comes next."""
        asked = torch.tensor(int(wanted), device=self._gang.device)
        dist.all_reduce(asked, dist.ReduceOp.MIN)
        return Walk(int(asked))

    def _follow(self, walk: Walk) -> None:
        self._stops = list(self._order[walk])
        self._to_the_end()

    def _to_the_end(self) -> None:
        while self._stops:
            self._go_on()
        self._held.close()
        self._here = ()

    @contextmanager
    def walk(self, wanted: Walk) -> Iterator[None]:
        """Have all matrices one layer after another, in the walk's order; those that nobody looks at are
        passed over together with the other ranks.
        """
        while (now := self._agree(wanted)) != wanted:
            self._follow(now)
        self._stops = list(self._order[wanted])
        try:
            yield
        finally:
            self._to_the_end()

    def finish(self, while_waiting: Callable[[], None]) -> None:
        """Follow the other ranks until all have ended; ``while_waiting`` is called at each of their walks."""
        while (now := self._agree(Walk.DONE)) != Walk.DONE:
            self._follow(now)
            while_waiting()


class Shown(Mapping[str, Tensor]):
    """A model's blocks as every member's own, shape (P, …), copied nowhere."""

    def __init__(self, blocks: Mapping[str, Tensor], width: int) -> None:
        self._blocks, self._width = blocks, width

    def __getitem__(self, name: str) -> Tensor:
        own = self._blocks[name]
        return own.expand(self._width, *own.shape[1:])

    def __iter__(self) -> Iterator[str]:
        return iter(self._blocks)

    def __len__(self) -> int:
        return len(self._blocks)


class Transposed(Mapping[str, Tensor]):
    """Matrices as tokens are multiplied with them, but for the embedding; looked up when they are needed."""

    def __init__(self, blocks: Mapping[str, Tensor], head: str) -> None:
        self._blocks, self._head = blocks, head

    def __getitem__(self, name: str) -> Tensor:
        if name == "embed":
            return self._blocks[name][0]
        return self._blocks[self._head if name == "head" else name][0].t()

    def __iter__(self) -> Iterator[str]:
        return iter(self._blocks)

    def __len__(self) -> int:
        return len(self._blocks)
