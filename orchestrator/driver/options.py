"""What a driver is told of how to behave."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DriverOptions:
    """How a driver behaves, apart from what the scheduler decides."""

    sharing: bool = False
    """Let trainers that can do so share work between the runs of a batch."""
    node_spools: str = ""
    """Folder on each node for its workers' spools, whose bytes then go with the reports; empty for ours."""
    grace_s: float = 10.0
    """Time that running work gets to finish after SIGINT or SIGTERM."""
    grows_to: int = 0
    """Processes that there will be room for once all nodes have joined."""
    until: float | None = None
    """Unix time by which the sweep must have stopped cleanly."""
    nodes_asked: int = 0
    """Nodes that the job asked for; 0 where nobody says."""
