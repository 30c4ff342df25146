"""Which runs should travel together. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sweeps.manifest.manifest import Manifest
from sweeps.sharing.packs import packing_of
from sweeps.sharing.share_groups import ShareGroups


@dataclass(frozen=True, kw_only=True, slots=True)
class Batches:
    """Runs in groups that one worker should run together."""

    order: np.ndarray
    """The runs batch by batch, in their old order within each, int64, shape (rows,)."""
    number: np.ndarray
    """Batch of each entry of ``order``, from 0 without gaps, never falling, int64, shape (rows,)."""

    def __len__(self) -> int:
        return int(self.number[-1]) + 1 if len(self.number) else 0

    def __iter__(self) -> Iterator[list[int]]:
        ends = np.flatnonzero(np.diff(self.number)) + 1
        return (part.tolist() for part in np.split(self.order, ends)) if len(self.order) else iter(())


def batches(manifest: Manifest, rows: Sequence[int] | np.ndarray, max_runs: int) -> Batches:
    """Return ``rows`` in groups that one worker should run together.

    Kin (see :mod:`sweeps.sharing.stages`) stay together up to ``max_runs``; above that they part between
    trunks, so that no optimizer step is computed twice unless a single trunk holds more runs than that. Kin
    that join the same packs (:mod:`sweeps.sharing.packs`) fill a batch together.
    """
    share_groups, chosen = ShareGroups(manifest), np.asarray(rows, dtype=np.int64)
    pack_of = packing_of(manifest).pack_of[chosen]
    if share_groups.num_same_rollouts == len(manifest) and (pack_of < 0).all():
        return Batches(order=chosen, number=np.arange(len(chosen)))
    _, first_of_kin, kin = np.unique(
        share_groups.same_rollouts[chosen], return_index=True, return_inverse=True
    )
    # What may share a batch: the kin alone, or all of a pack.
    _, first_of_mates, mates = np.unique(
        np.where(pack_of >= 0, pack_of, pack_of.max(initial=0) + 1 + kin),
        return_index=True,
        return_inverse=True,
    )
    _, first, trunk = np.unique(share_groups.same_trunk[chosen], return_index=True, return_inverse=True)
    kin_of_trunk, mates_of_trunk = kin[first], mates[first]  # a trunk lies within one kin
    by_appearance = np.lexsort((first, first_of_kin[kin_of_trunk], first_of_mates[mates_of_trunk]))
    sizes, size_of_kin = np.bincount(trunk)[by_appearance].tolist(), np.bincount(kin).tolist()
    kins, all_mates = kin_of_trunk[by_appearance].tolist(), mates_of_trunk[by_appearance].tolist()
    batch_of_trunk = np.empty(len(first), dtype=np.int64)
    batch, filled, last, last_mates = -1, 0, -1, -1
    for position, (size, own_kin, own_mates) in enumerate(zip(sizes, kins, all_mates, strict=True)):
        # Kin that do not fit into what is left begin a batch of their own, rather than part.
        whole = size if own_kin == last else min(size_of_kin[own_kin], max_runs)
        if own_mates != last_mates or filled + whole > max_runs:
            batch, filled = batch + 1, 0
        filled, last, last_mates = filled + size, own_kin, own_mates
        batch_of_trunk[by_appearance[position]] = batch
    number = batch_of_trunk[trunk]
    places = np.lexsort((chosen, number))
    return Batches(order=chosen[places], number=number[places])
