"""The nodes of a cluster as people hear of them: how many are there, of how many that the job asked for."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from typing import Any

from orchestrator.planning.cluster import Cluster, require_capacity
from orchestrator.pools.base import Pool
from orchestrator.scheduling.events import Capacity
from orchestrator.store.status import nodes_text
from sweeps.manifest.manifest import Manifest
from sweeps.spec.errors import UserError

ASKED_VARIABLES = ("EMSWEEP_NODES", "SLURM_JOB_NUM_NODES")
"""Variables that say how many nodes the job asked for; the first that is set counts."""

LATE_S = 120.0
"""Time that nodes which the job has, and that are not there yet, get before a run that does not fit without
them is refused.
"""


def nodes_asked(environment: Mapping[str, str] = os.environ) -> int:
    """Nodes that this job asked for; 0 where nobody says."""
    told = (environment.get(name, "") for name in ASKED_VARIABLES)
    return next((int(text) for text in told if text.isdecimal()), 0)


def num_nodes(capacity: Capacity) -> int:
    """Nodes that workers may be on: a head without a core is none."""
    return sum(node.cpus > 0 for node in capacity.nodes)


def require_room(manifest: Manifest, cluster: Cluster, pool: Pool) -> None:
    """Refuse runs that could never start on a cluster, once its nodes have had the time to join.

    Raises:
        UserError: as :func:`~orchestrator.planning.cluster.require_capacity`.
    """
    until_s = time.monotonic() + LATE_S
    while True:
        capacity = pool.capacity()
        if cluster.grows_to:  # what its nodes will hold was checked where they were asked for
            capacity = Capacity(slots=max(capacity.slots, cluster.grows_to), gpus=math.inf)
        try:
            return require_capacity(manifest, capacity, cluster.settings.max_gpus, cluster.num_workers)
        except UserError:
            if num_nodes(capacity) >= nodes_asked() or time.monotonic() > until_s:
                raise
        pool.events(1.0)


class NodeWatch:
    """Puts into words that nodes come and go."""

    def __init__(self, capacity: Capacity, asked: int) -> None:
        self._there, self._asked = num_nodes(capacity), asked
        self.is_short = self._there < asked
        """Whether nodes that were asked for are not there."""
        self.is_told = asked > 0 or capacity.grows or len(capacity.nodes) > 1
        """Whether the nodes are worth a word: one machine is not."""

    def look(self, capacity: Capacity) -> str:
        """What is to be said of the nodes that came or went since the last call; mostly nothing."""
        before, self._there = self._there, num_nodes(capacity)
        if self._there == before:
            return ""
        what = "joined" if self._there > before else "left"
        num = abs(self._there - before)
        return f"{num} node{'s' if num > 1 else ''} {what}: {self.text()}"

    def text(self) -> str:
        """How many are there."""
        return nodes_text(self.status())

    def status(self) -> dict[str, Any]:
        """The same for ``status.json``."""
        return {"there": self._there, "asked": max(self._asked, self._there) if self._asked else None}
