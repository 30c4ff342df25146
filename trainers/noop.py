"""A trainer that trains nothing: it measures the orchestrator, and stands in where only scheduling matters.

``trainer.params``: ``duration_s`` sleeps that long (default 0); ``steps`` records that many rows (default 0).
"""

from __future__ import annotations

import hashlib
import time

from sweeps.spec import RunSpec
from trainers.protocol import Cancelled, RunContext, RunResult, WorkerContext

SLICE_S = 0.05
"""Longest sleep between two looks at the cancel flag, in seconds."""


class Noop:
    """Answers at once, with a number that depends only on the seed and the model's name."""

    def __init__(self, context: WorkerContext) -> None:
        self._world_size = context.world_size

    def run(self, spec: RunSpec, context: RunContext) -> RunResult:
        """Sleep ``duration_s`` seconds and return ``draw``, uniform in [0, 1) and a function of the seed.

        Raises:
            Cancelled: when asked to stop while asleep.
        """
        started_s = time.perf_counter()
        duration_s = float(spec.trainer.params.get("duration_s", 0.0))
        while (left_s := duration_s - (time.perf_counter() - started_s)) > 0:
            if context.cancelled():
                raise Cancelled
            time.sleep(min(left_s, SLICE_S))
            context.heartbeat("asleep")
        digest = hashlib.blake2b(f"{spec.model.name}/{spec.seed}".encode(), digest_size=8).digest()
        draw = int.from_bytes(digest) / 2**64
        return RunResult(
            outcome="done",
            metrics={"draw": draw, "wall_s": time.perf_counter() - started_s},
            steps=[{"step": k, "draw": draw} for k in range(int(spec.trainer.params.get("steps", 0)))],
            layout={"world_size": self._world_size},
        )
