"""Which runs' weights stay on disk. Owns the folders below ``checkpoints/`` once their run is committed."""

from __future__ import annotations

import heapq
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.driver.observing import finite
from sweeps.spec import ResourcesSpec


class Retention:
    """Keeps the weights of the sweep's best runs and removes the others', one heap operation per result."""

    def __init__(self, checkpoints: Path) -> None:
        self._checkpoints = checkpoints
        self._best: list[tuple[float, str]] = []

    def take(self, run_id: str, metrics: Mapping[str, Any], resources: ResourcesSpec) -> None:
        """Take note of a committed result; ``best`` prunes, every other policy is left to the trainer.

        A run without the metric, or with one that is not finite, ranks last.
        """
        if resources.keep_checkpoints != "best":
            return
        value = metrics.get(resources.keep_best_metric)
        value = finite(int(value) if isinstance(value, bool) else value)
        rank = -math.inf if value is None else value
        heapq.heappush(self._best, (rank, run_id))
        while len(self._best) > resources.keep_best_k:
            _, worst = heapq.heappop(self._best)
            shutil.rmtree(self._checkpoints / worst, ignore_errors=True)
