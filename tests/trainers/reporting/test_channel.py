"""From a script to its worker: real processes, a real pipe."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainers.protocol import RunContext
from trainers.reporting import Decision
from trainers.reporting.channel import ReportChannel

ROOT = Path(__file__).parents[3]


def started(code: str, channel: ReportChannel, **options: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **channel.environment}
    command = [sys.executable, "-c", "from trainers.reporting import report\n" + code]
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )


def rows_of(process: subprocess.Popen[str], channel: ReportChannel) -> list[tuple[int, dict]]:
    rows = []
    while process.poll() is None:
        select.select([channel], [], [], 0.05)
        rows += list(channel.rows())
    return rows + list(channel.rows())


def test_rows_of_a_script_arrive_whole_and_in_order():
    code = "for k in range(30_000): report(k, loss=k / 7, name='é', none=None, flag=True)"
    with ReportChannel() as channel:
        rows = rows_of(started(code, channel), channel)
    assert [step for step, _ in rows] == list(range(30_000))
    assert all(row == {"loss": k / 7, "name": "é", "none": None, "flag": True} for k, row in rows)


def test_rows_of_processes_below_the_script_do_not_mix():
    code = """
import subprocess, sys
row = "**{f'm{i}': k for i in range(300)}"
inner = f"from trainers.reporting import report\\nfor k in range(2000): report(k, {row})"
children = [subprocess.Popen([sys.executable, "-c", inner]) for _ in range(3)]
sys.exit(sum(child.wait() for child in children))
"""
    with ReportChannel() as channel:
        process = started(code, channel)
        rows = rows_of(process, channel)
    assert process.returncode == 0
    assert sum(len(row) for _, row in rows) == 3 * 2000 * 300
    assert all(value == step for step, row in rows for value in row.values())


def test_other_languages_report_by_writing_lines():
    with ReportChannel() as channel:
        script = """echo '{"step": 3, "eval": {"loss": 0.5}}' > "$EMSWEEP_REPORT/rows" """
        subprocess.run(["sh", "-c", script], env={**os.environ, **channel.environment}, check=True)
        assert list(channel.rows()) == [(3, {"eval.loss": 0.5})]


def test_a_line_that_is_no_row_is_named_and_those_after_it_are_read():
    with ReportChannel() as channel:
        Path(channel.environment["EMSWEEP_REPORT"], "rows").write_text('loss 0.5\n{"step": 1, "a": 2}\n')
        with pytest.raises(ValueError, match=r"'loss 0\.5': write one JSON object a line"):
            list(channel.rows())
        assert list(channel.rows()) == [(1, {"a": 2})]


def test_the_script_hears_the_newest_decision_without_waiting():
    code = "import sys\nfor k in sys.stdin: print(report(int(k)), flush=True)"
    with ReportChannel() as channel:
        process = started(code, channel, stdin=subprocess.PIPE)
        assert process.stdin
        assert process.stdout
        heard = []
        for step, decision in enumerate([Decision(), Decision(stop=True, reason="§"), Decision()]):
            channel.show(decision)
            process.stdin.write(f"{step}\n")
            process.stdin.flush()
            heard.append(process.stdout.readline().strip())
        process.communicate(timeout=20)
    stop = str(Decision(stop=True, reason="§"))
    assert heard == [str(Decision()), stop, stop]


def test_passing_on_reports_each_row_and_shows_the_decision():
    taken = []
    stop = Decision(stop=True, reason="cancelled")
    context = RunContext(report=lambda step, **row: taken.append((step, row)), decision=lambda: stop)
    with ReportChannel() as channel:
        folder = Path(channel.environment["EMSWEEP_REPORT"])
        (folder / "rows").write_text('{"step": 1, "a": 2}\n')
        channel.pass_on(context)
        assert taken == [(1, {"a": 2})]
        assert (folder / "decision").read_text() == '1{"reason": "cancelled"}'


def test_a_script_goes_on_when_its_worker_is_killed():
    worker = """
import os, subprocess, sys, time
from trainers.reporting.channel import ReportChannel
channel = ReportChannel()
subprocess.Popen(sys.argv[1:], env={**os.environ, **channel.environment})
time.sleep(60)
"""
    script = """
import time
from trainers.reporting import report
report(0)
print("begun", flush=True)
input()
timer = time.monotonic()
for k in range(1000): report(k, text="x" * 400)
print(time.monotonic() - timer, flush=True)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", worker, sys.executable, "-c", script]
    parent = subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert parent.stdin
    assert parent.stdout
    assert parent.stderr
    assert parent.stdout.readline() == b"begun\n"
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdin.write(b"\n")
    parent.stdin.flush()
    assert float(parent.stdout.readline()) < 1
    assert parent.stderr.read().count(b"are dropped") == 1


def test_a_worker_that_does_not_read_holds_its_script_up_for_a_second_at_most():
    code = "for k in range(20_000): report(k, text='x' * 400)"
    with ReportChannel() as channel:
        timer = time.monotonic()
        _, complaints = started(code, channel).communicate(timeout=30)
        assert time.monotonic() - timer < 8
        assert complaints.count("nobody reads them") == 1
        assert len(list(channel.rows())) > 1_000


def test_closing_leaves_nothing_behind():
    with ReportChannel() as channel:
        folder = Path(channel.environment["EMSWEEP_REPORT"])
        assert folder.exists()
    assert not folder.exists()
    channel.close()
