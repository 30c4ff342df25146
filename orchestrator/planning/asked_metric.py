"""The metric that decides, for a race or a search: the one asked for, else the one that tables are about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweeps.manifest.manifest import Manifest
from sweeps.spec.errors import SpecError
from sweeps.spec.metrics import MetricInfo, metric_info
from trainers.metrics import HEADLINE_METRICS, SHIPPED, shipped_metric


@dataclass(frozen=True, kw_only=True)
class AskedMetric:
    """A metric and what is known of it."""

    name: str
    info: MetricInfo
    shipped: bool
    """Whether a shipped trainer's runs are among those that have it."""


def asked_metric(
    manifest: Manifest,
    asked: str | None,
    kind: str,
    said: Mapping[str, Any] | None = None,
    *,
    option: str = "search",
) -> AskedMetric:
    """The metric that these runs are decided by.

    Args:
        asked: its name, where one was given.
        kind: what asks, ``race``, a sampler or a pruner, for messages.
        said: what the trainers' classes say of their metrics.
        option: the option that asks.

    Raises:
        SpecError: where there is none that all runs have, or nothing is known of it.
    """
    declared = declared_metrics(manifest)
    targets = [trainer.target for trainer in _trainers_of(manifest)]
    for name, written in (said or {}).items():
        declared.setdefault(name, written)
    shipped = any(target.startswith(SHIPPED) for target in targets)
    metric = asked or next(iter(declared), None) or (_judged(manifest) if shipped else None)
    if metric is None and shipped:
        raise SpecError(
            f"{option}={kind}: not all of these runs are judged, so there is no accuracy to decide by; "
            f"choose an eval, or another metric with {option}.metric="
        )
    if metric is None:
        raise SpecError(
            f"{option}={kind}: nothing is said of this trainer's metrics; name one with {option}.metric=, "
            "and say which way it is better with trainer.metrics.NAME: {direction: max}"
        )
    info = metric_info(metric, declared[metric]) if metric in declared else None
    info = info or (shipped_metric(metric) if shipped else None) or MetricInfo()
    return AskedMetric(name=metric, info=info, shipped=shipped)


def declared_metrics(manifest: Manifest) -> dict[str, Any]:
    """What ``trainer.metrics`` says of each metric of a sweep's runs, by name."""
    declared: dict[str, Any] = {}
    for trainer in _trainers_of(manifest):
        for name, written in (trainer.metrics or {}).items():
            declared.setdefault(name, written)
    return declared


def _trainers_of(manifest: Manifest) -> list[Any]:
    """The distinct trainers of a sweep's runs."""
    _, first = np.unique(manifest.group_codes["trainer"], return_index=True)
    return [manifest.group("trainer", int(run)) for run in first]


def evaluations_of(manifest: Manifest) -> list[Any]:
    """The distinct evaluations of a sweep's runs."""
    _, first = np.unique(manifest.group_codes["eval"], return_index=True)
    return [manifest.group("eval", int(run)) for run in first]


def _judged(manifest: Manifest) -> str | None:
    """The accuracy that a shipped trainer's runs are about; ``None`` where some run is not judged."""
    judged = evaluations_of(manifest)
    if any(e.path is None for e in judged):
        return None
    sampled, greedy = HEADLINE_METRICS
    if all(e.temperatures for e in judged):
        return sampled
    return greedy if all(e.greedy for e in judged) else None
