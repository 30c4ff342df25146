"""An imaginary cluster, and what became of a sweep on it."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

from sweeps.spec import nearest
from sweeps.spec.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterModel:
    """An imaginary cluster."""

    gpus: int = 8
    """GPUs in all; on a cluster without GPUs, processes at once."""
    gpus_per_node: int = 8
    mtbf_h: float = math.inf
    """Mean hours between failures of one node."""
    repair_min: float = 30.0
    """Minutes until a failed node is back."""
    preempt_h: float = math.inf
    """Mean hours between preemptions of one node, which is back after ``repair_min`` as well."""
    detect_s: float = 10.0
    """Seconds until the driver learns that a node is gone."""
    start_s: float = 30.0
    """Seconds a worker takes to come up and load its libraries."""
    spread: float = 0.0
    """Standard deviation of the logarithm of run times: 0 makes every run take what is expected of it."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("gpus", "gpus_per_node", "mtbf_h", "preempt_h"):
            _require(getattr(self, name) > 0, name, getattr(self, name), "must be above 0")
        for name in ("repair_min", "detect_s", "start_s", "spread"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "must be at least 0")

    @property
    def num_nodes(self) -> int:
        """Nodes, the last one perhaps partly filled."""
        return -(-self.gpus // self.gpus_per_node)


def parse_cluster(text: str) -> ClusterModel:
    """Read ``gpus=1024,mtbf_h=500``.

    Raises:
        UserError: for an unknown name or a value that is no number or out of range.
    """
    known = {f.name: f.type for f in fields(ClusterModel)}
    values: dict[str, float] = {}
    for word in filter(None, text.split(",")):
        name, _, value = word.partition("=")
        if name not in known:
            hint = nearest(name, known)
            raise UserError(f"--simulate {word}: unknown name {name!r}{hint}; choose from {', '.join(known)}")
        try:
            values[name] = int(value) if known[name] == "int" else float(value)
        except ValueError:
            raise UserError(f"--simulate {word}: {value!r} is no number; write {name}=8") from None
    return replace(ClusterModel(), **values)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulationResult:
    """What the imaginary cluster made of the sweep."""

    runs: int
    makespan_s: float
    """Virtual seconds from the start to the last result."""
    lower_bound_s: float
    """No schedule is faster: the work spread evenly over all GPUs, or the longest run, after one start-up."""
    utilisation: float
    """Share of all GPU time that went into runs that gave a result."""
    retries: int
    node_failures: int
    """Nodes lost, preemptions included."""
    lost_gpu_h: float
    """GPU-hours spent on attempts that gave no result."""
    stopped: str = ""
    """Why the sweep gave up before every run was over; empty when it did not."""

    @property
    def overhead(self) -> float:
        """Makespan over the lower bound; 1 is perfect."""
        return self.makespan_s / self.lower_bound_s if self.lower_bound_s else 1.0

    def to_json(self) -> dict[str, float | str]:
        return {f.name: getattr(self, f.name) for f in fields(self)} | {"overhead": self.overhead}


def _require(ok: bool, name: str, value: object, rule: str) -> None:
    if not ok:
        raise UserError(f"--simulate {name}={value}: {rule}")
