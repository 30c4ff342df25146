"""Tables put together from parts: every row at its place, whatever the order and the columns of the parts."""

from __future__ import annotations

import random

import pyarrow.parquet as pq
import pytest

from orchestrator.store.compaction import is_current, merge
from orchestrator.store.layout import Layout
from orchestrator.store.outcomes import Failure
from orchestrator.store.parts import PartWriter
from orchestrator.store.run_index import CODE, FailureNote, RunIndex
from orchestrator.store.spool import Line, encode_line
from sweeps.manifest import manifest_file
from sweeps.manifest.manifest_file import write_manifest
from tests.orchestrator.sweeping import noop_manifest
from trainers.protocol import Evaluation, RunResult

NUM = 60


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """A manifest of several row groups, and its empty book."""
    monkeypatch.setattr(manifest_file, "CHUNK_ROWS", 25)
    manifest, layout = noop_manifest(NUM), Layout(tmp_path)
    layout.create()
    write_manifest(manifest, layout.manifest)
    assert pq.ParquetFile(layout.manifest).num_row_groups == 3
    return layout, manifest, RunIndex(manifest.run_ids)


def add(parts: PartWriter, manifest, book: RunIndex, index: int, /, **metrics) -> None:
    evaluation = Evaluation(
        benchmark="b", step=0, mode="greedy", temperature=0.0, num_samples=1,
        correct=[index, 1], strict=[0, 0], boxed=[0, 0], truncated=[0, 0], tokens=[1, 2],
    )  # fmt: skip
    result = RunResult(
        outcome="done",
        metrics=metrics,
        steps=[{"step": s, "loss": index + s / 2} for s in range(2)],
        evaluations=[evaluation],
    )
    header = {
        "kind": "result", "run_id": manifest.run_ids[index], "attempt": 0, "outcome": "done",
        "worker": "w", "host": "h", "finished_at": float(index),
    }  # fmt: skip
    body = encode_line({}, result.to_json()).partition(b'"result":')[2][:-2]
    parts.add(index, Line(header, body, 0, 0))
    book.commit(index, "done", "w.jsonl", 0, 0)


def rows(layout, table="runs"):
    return pq.read_table(layout.table(table)).to_pylist()


def test_results_that_came_in_any_order_end_up_in_the_manifests(sweep):
    layout, manifest, book = sweep
    parts, order = PartWriter(layout), list(range(NUM))
    random.Random(0).shuffle(order)
    for number, index in enumerate(order):
        add(parts, manifest, book, index, draw=float(index))
        if number % 7 == 6:
            parts.write_part()
    parts.write_part()
    merge(layout, manifest, book)
    assert [(r["index"], r["run_id"], r["draw"]) for r in rows(layout)] == [
        (i, run_id, float(i)) for i, run_id in enumerate(manifest.run_ids)
    ]
    assert sorted((r["index"], r["step"], r["loss"]) for r in rows(layout, "steps")) == [
        (i, s, i + s / 2) for i in range(NUM) for s in range(2)
    ]
    assert all(r["correct"] == [r["index"], 1] for r in rows(layout, "items"))
    assert is_current(layout, manifest.digest, book)
    assert not list(layout.parts.iterdir())


def test_a_column_that_some_parts_lack_is_null_there_and_whole_numbers_become_floats(sweep):
    layout, manifest, book = sweep
    parts = PartWriter(layout)
    add(parts, manifest, book, 0, draw=1)
    parts.write_part()
    add(parts, manifest, book, 30, draw=0.5, late=7)
    parts.write_part()
    add(parts, manifest, book, 59, draw=None)
    parts.write_part()
    merge(layout, manifest, book)
    found = rows(layout)
    assert [found[i]["draw"] for i in (0, 30, 59, 1)] == [1.0, 0.5, None, None]
    assert [found[i]["late"] for i in (0, 30, 59)] == [None, 7, None]
    assert [r["outcome"] for r in found].count("pending") == NUM - 3


def test_failures_stand_beside_results_in_every_row_group(sweep):
    layout, manifest, book = sweep
    parts = PartWriter(layout)
    add(parts, manifest, book, 10, draw=0.5)
    for index in (0, 24, 25, 59):
        failure = Failure("error", "f" * 12, f"broke {index}")
        book.note_failure(index, FailureNote(failure, 1, "w2", 9.0))
        book.outcome[index] = CODE["quarantined"]
    book.note_failure(11, FailureNote(Failure("error", "f" * 12, "retried"), 0, "w2", 9.0))
    parts.write_part()
    merge(layout, manifest, book)
    failed = [(r["index"], r["attempt"], r["worker"], r["error"]) for r in rows(layout) if r["error"]]
    assert failed == [(i, 1, "w2", f"broke {i}") for i in (0, 24, 25, 59)]
    assert rows(layout)[10]["error"] is None


def test_a_sweep_without_a_result_has_a_table_of_its_runs_and_no_other(sweep):
    layout, manifest, book = sweep
    merge(layout, manifest, book)
    assert {r["outcome"] for r in rows(layout)} == {"pending"}
    assert {"attempt", "worker", "host", "finished_at", "error"} <= set(rows(layout)[0])
    assert not layout.table("steps").exists()


def test_a_table_of_another_manifest_or_other_outcomes_is_not_current(sweep):
    layout, manifest, book = sweep
    assert not is_current(layout, manifest.digest, book)
    merge(layout, manifest, book)
    assert is_current(layout, manifest.digest, book)
    assert not is_current(layout, "another", book)
    book.outcome[3] = CODE["cancelled"]
    assert not is_current(layout, manifest.digest, book)


def test_results_that_disagree_on_a_columns_kind_are_tabled_as_text_and_numbers_as_floats(sweep):
    layout, manifest, book = sweep
    parts = PartWriter(layout)
    add(parts, manifest, book, 0, mixed="high", number=True, whole=1)
    add(parts, manifest, book, 1, mixed=None, number=2, whole=2)
    parts.write_part()
    add(parts, manifest, book, 2, mixed=1.5, number=0.5, whole=2**70)
    add(parts, manifest, book, 3, mixed={"b": [1]}, number=None, whole=4)
    parts.write_part()
    add(parts, manifest, book, 4, mixed=True, number=False, whole=5)
    parts.write_part()
    merge(layout, manifest, book)
    found = rows(layout)[:5]
    assert [row["mixed"] for row in found] == ["high", None, "1.5", '{"b": [1]}', "true"]
    assert [row["number"] for row in found] == [1.0, 2.0, 0.5, None, 0.0]
    assert [row["whole"] for row in found] == [1.0, 2.0, 2.0**70, 4.0, 5.0]


def test_a_metric_called_as_a_column_of_every_run_takes_nothing_from_it(sweep):
    layout, manifest, book = sweep
    parts = PartWriter(layout)
    taken = {"index": 3.5, "run_id": "x", "outcome": "y", "worker": 1, "seed": "z", "name": 2, "error": 7}
    add(parts, manifest, book, 1, draw=0.5, **taken)
    parts.write_part()
    merge(layout, manifest, book)
    row = rows(layout)[1]
    assert (row["index"], row["run_id"], row["outcome"]) == (1, manifest.run_ids[1], "done")
    assert (row["worker"], row["seed"], row["name"]) == ("w", manifest.spec(1).seed, manifest.name(1))
    assert (row["error"], row["draw"]) == (None, 0.5)
