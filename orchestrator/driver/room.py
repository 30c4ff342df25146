"""How much can be at work at once, where a driver runs."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.driver.options import DriverOptions
from orchestrator.pools.base import Pool
from orchestrator.scheduling.events import Capacity, Shape

GROWN = 8
"""Workers that a cluster which grows, from none, is taken to have."""


class Room:
    """A pool's room, now and as it could grow."""

    def __init__(self, pool: Pool, options: DriverOptions) -> None:
        self._pool, self._options = pool, options

    def capacity(self) -> Capacity:
        """What there is. Nodes that join by themselves leave by themselves once no worker is there."""
        capacity = self._pool.capacity()
        return replace(capacity, grows=capacity.grows or self._options.grows_to > 0)

    def most_slots(self) -> int:
        """Processes that there is room for, or could be."""
        capacity = self.capacity()
        return max(capacity.slots, self._options.grows_to or (GROWN if capacity.grows else 1))

    def most_runs(self, shape: Shape, max_slots: int) -> int:
        """Runs of a shape that could be at work at once below a cap on slots, 0 for none; at least one."""
        capacity, slots = self.capacity(), self.most_slots()
        room = capacity.room(shape)
        if room >= shape.world_size and not capacity.grows:
            slots = int(min(slots, room))
        return max(1, (min(slots, max_slots) if max_slots else slots) // shape.world_size)
