"""What a call of ``report`` costs, in a trainer and in a script."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from orchestrator.store.outcomes import Grant
from orchestrator.worker.protocol import Task, WorkerSetup
from orchestrator.worker.reported import WorkerReports
from tests.orchestrator.sweeping import noop_manifest
from trainers.reporting import report, reporting_to
from trainers.reporting.channel import ReportChannel

CALLS = 20_000

METRICS = {"loss": 0.6931471805599453, "accuracy": 0.5, "lr": 3e-4}

_SCRIPT = f"""
import time
from trainers.reporting import report
report(0)
timer = time.process_time()
for step in range({CALLS}):
    report(step, loss=0.6931471805599453, accuracy=0.5, lr=3e-4)
print((time.process_time() - timer) / {CALLS} * 1e6)
"""


def report_us(folder: Path) -> float:
    """Processor microseconds of a call in a trainer: checked, written to the sweep directory, answered."""
    manifest = noop_manifest(1)
    setup = WorkerSetup(
        name="w", spool=None, reports=folder / "reports" / "w.jsonl", checkpoints=folder, log=folder / "log"
    )
    reports = WorkerReports(setup, set(), lambda: None)
    attempt = reports.begun(Task(Grant(0, 0, 1), manifest.run_ids[0], manifest.spec(0)))
    with reporting_to(attempt.report):
        report(0)
        timer = time.process_time()
        for step in range(CALLS):
            report(step, **METRICS)
        spent_s = time.process_time() - timer
    reports.close()
    return spent_s / CALLS * 1e6


def script_report_us() -> float:
    """Processor microseconds of a call in a script, whose worker reads meanwhile."""
    with ReportChannel() as channel:
        command = [sys.executable, "-c", _SCRIPT]
        environment = _environment() | channel.environment
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        num = 0
        while process.poll() is None:
            num += sum(1 for _ in channel.rows())
        num += sum(1 for _ in channel.rows())
        assert process.stdout is not None
        found = float(process.stdout.read())
    assert num == CALLS + 1, f"{CALLS + 1 - num} rows were lost"
    return found


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
