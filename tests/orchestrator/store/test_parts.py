from __future__ import annotations

import json

import pytest

from orchestrator.store.layout import Layout
from orchestrator.store.parts import PART_RUNS, PART_S, PartWriter, parts_of, read_part
from orchestrator.store.spool import Line
from trainers.protocol import RunResult

BODY = json.dumps(RunResult(outcome="done", metrics={"m": 1.0}).to_json()).encode()


@pytest.fixture
def layout(tmp_path):
    layout = Layout(tmp_path)
    layout.create()
    return layout


def line(number: int) -> Line:
    header = {"run_id": f"{number:032x}", "outcome": "done", "attempt": 0, "worker": "w", "host": "h"}
    return Line({**header, "finished_at": 0.0}, BODY, 0, 0)


def test_slow_runs_are_written_after_a_while_though_a_part_is_not_full(layout):
    parts = PartWriter(layout)
    assert not parts.is_due(0.0)
    parts.add(0, line(0))
    assert not parts.is_due(100.0)
    assert not parts.is_due(100.0 + PART_S - 0.1)
    assert parts.is_due(100.0 + PART_S)
    parts.write_part()
    assert len(parts_of(layout, "runs")) == 1
    assert not parts.is_due(1_000.0)


def test_however_slow_the_runs_are_there_are_few_parts(layout):
    parts, now_s = PartWriter(layout), 0.0
    for number in range(10 * PART_RUNS):
        if parts.is_full or parts.is_due(now_s):
            parts.write_part()
        parts.add(number, line(number))
        now_s += 60.0
    assert len(parts_of(layout, "runs")) < 90


def test_a_later_driver_spells_columns_as_the_parts_do_that_it_found(layout):
    for number, name in enumerate(("loss", "Loss")):
        parts = PartWriter(layout)
        body = json.dumps(RunResult(outcome="done", metrics={name: 1.0}).to_json()).encode()
        parts.add(number, line(number)._replace(body=body))
        parts.write_part()
    assert [read_part(path)["loss"].to_pylist() for path in parts_of(layout, "runs")] == [[1.0], [1.0]]
