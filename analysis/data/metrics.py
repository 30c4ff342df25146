"""What is known of a sweep's metrics: what its files say, else what the shipped trainers say of theirs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from analysis.data.source import Source
from analysis.data.views import literal, quoted
from orchestrator.store.column_names import NAMESPACE
from sweeps.spec.metrics import MetricInfo, metric_info
from trainers.metrics import HEADLINE_METRICS, SHIPPED, shipped_metric, timing


@dataclass(frozen=True, kw_only=True)
class KnownMetrics:
    """Direction, unit and range of every metric that a sweep may have."""

    declared: Mapping[str, MetricInfo]
    """What sweep files and trainers' classes say, the metric that a sweep is about first."""
    targets: tuple[str, ...]
    """Import paths of the trainers, those that are shipped left out."""
    shipped: bool
    """Whether a shipped trainer is among those of the sweep: its names then mean what it means by them."""

    def __getitem__(self, name: str) -> MetricInfo:
        """What is known of a metric; a plain number without a better end where nothing is."""
        said = name if name in self.declared else name.removeprefix(NAMESPACE)
        if said in self.declared:
            return self.declared[said]
        known = shipped_metric(name) if self.shipped else None
        return known or timing(name) or MetricInfo()

    def headline(self, results: Sequence[str], arrow: Callable[[str], pa.Table]) -> str:
        """The metric that a sweep is about, of those that its runs have, in the order of their columns.

        Where nothing is said it is the first that most finished runs have: what only diverged runs name is
        no headline.
        """
        first = next((name for name in (*self.declared, *HEADLINE_METRICS) if name in results), None)
        if first is not None:
            return first
        counts = ", ".join(f"count({quoted([name])}) AS {quoted([name])}" for name in results)
        row = arrow(f"SELECT {counts} FROM runs WHERE outcome = 'done'").to_pylist()[0]
        return max(results, key=lambda name: row[name])


def known_metrics(sources: Sequence[Source], arrow: Callable[[str], pa.Table]) -> KnownMetrics:
    """Read what is known of the metrics of these sweep directories.

    Args:
        sources: a later one adds to what an earlier one says, and contradicts nothing.
        arrow: runs SQL in a database that may read the manifests.
    """
    declared: dict[str, MetricInfo] = {}
    targets: list[str] = []
    shipped = False
    for source in sources:
        path = literal(str(source.manifest))
        for text in arrow(f'SELECT DISTINCT "spec.trainer" AS t FROM read_parquet({path})')["t"].to_pylist():
            trainer = json.loads(text)
            target = str(trainer.get("target", SHIPPED))
            shipped = shipped or target.startswith(SHIPPED)
            targets += [] if target.startswith(SHIPPED) or target in targets else [target]
            for name, written in (trainer.get("metrics") or {}).items():
                declared.setdefault(name, metric_info(name, written))
        said = source.asked.get("metrics")
        for name, written in said.items() if isinstance(said, Mapping) else ():
            declared.setdefault(str(name), metric_info(str(name), written))
    return KnownMetrics(declared=declared, targets=tuple(targets), shipped=shipped)
