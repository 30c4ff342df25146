"""A sweep's state for Prometheus, taken from ``status.json`` whenever somebody asks; the driver does nothing
for it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.store.layout import Layout
from orchestrator.store.liveness import age_s, live_driver
from orchestrator.store.status import read_status
from sweeps.spec.errors import UserError

if TYPE_CHECKING:
    from prometheus_client.core import Metric


class SweepCollector:
    """Reads one sweep's metrics when it is scraped."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def collect(self) -> Iterator[Metric]:
        """Yield the present metrics; nothing but ``emsweep_up`` before the driver has said anything."""
        from prometheus_client.core import GaugeMetricFamily

        status = read_status(self._layout) or {}
        name = self._layout.root.resolve().name

        def gauge(metric: str, about: str, value: float | None, **labels: str) -> Metric:
            family = GaugeMetricFamily(f"emsweep_{metric}", about, labels=["sweep", *labels])
            if value is not None:
                family.add_metric([name, *labels.values()], value)
            return family

        driver = live_driver(self._layout)
        yield gauge("up", "Whether a driver is at work.", float(driver is not None and not driver.is_silent))
        if not status:
            return
        runs = GaugeMetricFamily("emsweep_runs", "Runs by outcome.", labels=["sweep", "outcome"])
        for outcome, count in status["counts"].items():
            runs.add_metric([name, outcome], count)
        yield runs
        yield gauge("runs_total", "Runs of the manifest.", status["total"])
        yield gauge("runs_per_second", "Rate at which runs end.", status.get("runs_per_s"))
        yield gauge("eta_seconds", "Expected time to the end.", status.get("eta_s"))
        yield gauge("workers", "Worker processes.", status.get("workers"))
        yield gauge("status_age_seconds", "Seconds since the driver last spoke.", age_s(status))
        labels = ["sweep", "fingerprint", "class"]
        failures = GaugeMetricFamily("emsweep_failures", "Runs without a result by cause.", labels=labels)
        for group in status.get("failures") or ():
            failures.add_metric([name, group["fingerprint"], group["class"]], group["count"])
        yield failures


@contextlib.contextmanager
def serving_metrics(layout: Layout, port: int | None, host: str = "127.0.0.1") -> Iterator[None]:
    """Answer Prometheus on ``host:port`` meanwhile; ``None`` does nothing.

    Raises:
        UserError: when the port is taken.
    """
    if port is None:
        yield
        return
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry(auto_describe=False)
    registry.register(SweepCollector(layout))
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except (OSError, OverflowError) as error:
        raise UserError(
            f"--metrics-port {port}: cannot listen on {host} ({error}); give a free port"
        ) from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
