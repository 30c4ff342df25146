"""Raw logits in a few numbers: mergeable moments and a fixed histogram.

Entropy minimization is said to skew the logits to the right and reinforcement learning to the left (arXiv
2505.20282). The published script histogrammed processed scores and dropped zeros; these are the raw logits,
all of them, both on the model's own rollouts and teacher-forced on text that base and tuned model share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sweeps.spec import RunSpec
from trainers.engine.engine import Engine
from trainers.engine.gang import Gang
from trainers.model.base_model import BaseModel
from trainers.step.batch import step_batch
from trainers.step.forward import policy_logits
from trainers.step.rollout import Rollouts, draw_rollouts

EDGES = torch.arange(-40.0, 40.5, 0.5)
"""Inner bin edges: 0.5 wide from −40 to 40; two outer bins hold what lies beyond. Fixed, so histograms add
up.
"""


@dataclass(kw_only=True)
class LogitStats:
    """Count, mean, sums of squared and cubed deviations, and a histogram of raw logits."""

    n: int = 0
    mean: float = 0.0
    m2: float = 0.0
    m3: float = 0.0
    histogram: list[int] = field(default_factory=lambda: [0] * (len(EDGES) + 1))

    @classmethod
    def of(cls, logits_BKV: Tensor, mask_BK: Tensor, weight_B: Tensor) -> LogitStats:
        """Statistics of the logits at masked positions, each row counted as often as it was drawn."""
        stats = cls()
        for logits_KV, mask_K, weight in zip(logits_BKV, mask_BK, weight_B.tolist(), strict=True):
            if weight:
                stats.add(cls._of_values(logits_KV[mask_K].float().flatten()), times=int(weight))
        return stats

    @classmethod
    def _of_values(cls, values_N: Tensor) -> LogitStats:
        values = values_N.double()
        mean = values.mean()
        deviation = values - mean
        bins = torch.bucketize(values_N, EDGES.to(values_N.device), right=True)
        return cls(
            n=len(values),
            mean=float(mean),
            m2=float(deviation.square().sum()),
            m3=float(deviation.pow(3).sum()),
            histogram=torch.bincount(bins, minlength=len(EDGES) + 1).tolist(),
        )

    def add(self, other: LogitStats, times: int = 1) -> None:
        """Merge ``times`` copies of another sample (Pébay, "Formulas for robust, one-pass parallel
        computation of covariances and arbitrary-order statistical moments", SAND2008-6212, eq. 2.1–2.2).
        """
        n, k = self.n, other.n * times
        if not k:
            return
        total, delta = n + k, other.mean - self.mean
        m2, m3 = other.m2 * times, other.m3 * times
        self.m3 += m3 + delta**3 * n * k * (n - k) / total**2 + 3 * delta * (n * m2 - k * self.m2) / total
        self.m2 += m2 + delta**2 * n * k / total
        self.mean += delta * k / total
        self.n = total
        self.histogram = [a + b * times for a, b in zip(self.histogram, other.histogram, strict=True)]

    @property
    def skewness(self) -> float:
        """√n·M3 / M2^1.5, the population skewness; 0 for constant logits."""
        return self.n**0.5 * self.m3 / self.m2**1.5 if self.m2 > 0 else 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain values; the histogram is kept from its first to its last filled bin, with the offset."""
        filled = [k for k, count in enumerate(self.histogram) if count] or [0]
        first, last = filled[0], filled[-1]
        return {
            "n": self.n,
            "mean": self.mean,
            "m2": self.m2,
            "m3": self.m3,
            "skewness": self.skewness,
            "first_bin": first,
            "histogram": self.histogram[first : last + 1],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LogitStats:
        histogram = [0] * (len(EDGES) + 1)
        histogram[data["first_bin"] : data["first_bin"] + len(data["histogram"])] = data["histogram"]
        return cls(n=data["n"], mean=data["mean"], m2=data["m2"], m3=data["m3"], histogram=histogram)


def measure_logits(
    engine: Engine,
    spec: RunSpec,
    base: BaseModel,
    prompts: Sequence[Sequence[int]],
    shared: Rollouts,
    gang: Gang,
) -> list[dict[str, Any]]:
    """Statistics of tuned and base model. The engine gets the tuned state back.

    Args:
        shared: The base model's rollouts, the text that both models are forced through.

    Returns:
        One mapping per (``model`` base or tuned, ``text`` own or shared): the base model's own rollouts are
        the shared text. Beside them stand the fields of :meth:`LogitStats.to_json`.
    """
    tuned = engine.capture()
    drawn = draw_rollouts(engine.module, spec, base, prompts, step=spec.steps, gang=gang, drafts=shared)
    texts = [("tuned", "own", drawn), ("tuned", "shared", shared), ("base", "own", shared)]
    rows = []
    for model, text, rollouts in texts:
        if model == "base":
            engine.reset(spec.seed)
        stats = _of_rollouts(engine, spec, base, prompts, rollouts, gang)
        rows.append({"model": model, "text": text, **stats.to_json()})
    engine.restore(tuned)
    return rows


def _of_rollouts(
    engine: Engine,
    spec: RunSpec,
    base: BaseModel,
    prompts: Sequence[Sequence[int]],
    rollouts: Rollouts,
    gang: Gang,
) -> LogitStats:
    batch = step_batch(
        rollouts,
        prompts,
        size=spec.engine.micro_batch,
        rank=gang.rank,
        world_size=gang.world_size,
        base=base,
        device=gang.device,
    )
    of_rank = LogitStats()
    for micro_batch in batch.micro_batches:
        logits_BKV = policy_logits(engine.module, micro_batch)
        of_rank.add(LogitStats.of(logits_BKV, micro_batch.mask_BK, micro_batch.weight_B))
    whole = LogitStats()
    for part in gang.gather(of_rank.to_json()):
        whole.add(LogitStats.from_json(part))
    return whole
