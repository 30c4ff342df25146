from __future__ import annotations

import socket
import time
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.inspect.metrics import serving_metrics
from orchestrator.store.layout import Layout
from orchestrator.store.status import write_status
from sweeps.spec.errors import UserError
from tests.orchestrator.sweeping import noop_manifest, run
from tests.orchestrator.trainers import HERE


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def scraped(port: int) -> dict[tuple[str, ...], float]:
    """Samples by name and labels but the sweep's."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {
        (s.name, *(v for k, v in sorted(s.labels.items()) if k != "sweep")): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def test_prometheus_reads_what_a_sweep_came_to(tmp_path):
    run(tmp_path / "s", noop_manifest(10, target=f"{HERE}.Faulty", every=5))
    port = free_port()
    with serving_metrics(Layout(tmp_path / "s"), port):
        samples = scraped(port)
    assert samples["emsweep_runs", "done"] == 8
    assert samples["emsweep_runs", "quarantined"] == 2
    assert samples["emsweep_runs_total",] == 10
    assert samples["emsweep_up",] == 0
    [(_, kind, fingerprint)] = [key for key in samples if key[0] == "emsweep_failures"]
    assert kind == "error"
    assert samples["emsweep_failures", kind, fingerprint] == 2


def test_a_driver_that_no_longer_speaks_is_not_up(tmp_path):
    layout, port = Layout(tmp_path), free_port()
    status = {"state": "running", "counts": {"done": 1}, "total": 3, "runs_per_s": 2.5, "workers": 2}
    with serving_metrics(layout, port):
        assert scraped(port) == {("emsweep_up",): 0}  # nothing said yet
        write_status(layout, status)
        samples = scraped(port)
        assert samples["emsweep_up",] == 1
        assert samples["emsweep_runs_per_second",] == 2.5
        layout.status.write_text(layout.status.read_text().replace(str(int(time.time()))[:6], "100000"))
        assert scraped(port)["emsweep_up",] == 0


def test_a_taken_port_is_refused(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(UserError, match="give a free port"), serving_metrics(Layout(tmp_path), port):
            pass
