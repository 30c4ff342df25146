"""Failure groups and what they have in common."""

from __future__ import annotations

import shlex

import pytest
from scipy.stats import hypergeom

from orchestrator.store.failure_groups import failure_groups, tail
from orchestrator.store.outcomes import Failure
from orchestrator.store.run_index import CODE, FailureNote, RunIndex
from sweeps.compose import compose_sweep
from sweeps.manifest.build import build_manifest


@pytest.fixture(scope="module")
def manifest():
    words = ["sweep=noop", "optim.lr=1e-4,1e-3", "sampling.temperature=0.5,1.0", "seed=range(20)"]
    return build_manifest(compose_sweep(words))


def failed(manifest, choose, fingerprint="f" * 12):
    book = RunIndex(manifest.run_ids)
    for i in range(len(manifest)):
        if choose(manifest.axis_values(i)):
            book.outcome[i] = CODE["quarantined"]
            book.notes[i] = FailureNote(Failure("error", fingerprint, "it broke"), 1, "w", 0.0)
    return book


def test_the_axis_that_failures_share_is_named_with_a_filter_that_selects_it(manifest):
    book = failed(manifest, lambda row: row["optim.lr"] == 1e-3 and row["seed"] < 10)
    (group,) = failure_groups(manifest, book)
    assert group["count"] == 20
    assert group["over_represented"][0] == {
        "axis": "optim.lr",
        "value": "0.001",
        "share": 1.0,
        "share_of_sweep": 0.5,
    }
    assert group["filter"] == "optim.lr=0.001"


@pytest.mark.parametrize("value", ["x y", "star*", "it's, so", "1e-4"])
def test_the_filter_selects_a_value_of_any_spelling_and_no_other(value):
    words = ["sweep=noop", "seed=range(20)"]
    quoted = ["'" + v.replace("'", "\\'") + "'" for v in (value, "starfish")]
    manifest = build_manifest(compose_sweep([*words, f"trainer.params.note={','.join(quoted)}"]))
    key = "trainer.params.note"
    (group,) = failure_groups(manifest, failed(manifest, lambda row: row[key] == value))
    chosen = manifest.matching(shlex.split(group["filter"]))
    assert {manifest.axis_values(i)[key] for i in chosen} == {value}


def test_failures_spread_evenly_name_no_axis(manifest):
    (group,) = failure_groups(manifest, failed(manifest, lambda row: row["seed"] == 3))
    assert [v["axis"] for v in group["over_represented"]] == ["seed"]


def test_groups_come_largest_first(manifest):
    book = failed(manifest, lambda row: row["seed"] < 2, "a" * 12)
    for i in range(len(manifest)):
        if manifest.axis_values(i)["seed"] == 9:
            book.outcome[i] = CODE["failed"]
            book.notes[i] = FailureNote(Failure("timeout", "b" * 12, "too slow"), 0, "w", 0.0)
    assert [g["count"] for g in failure_groups(manifest, book)] == [8, 4]


@pytest.mark.parametrize(
    ("population", "marked", "drawn", "hits"),
    [(80, 40, 20, 20), (80, 4, 8, 1), (1000, 300, 50, 25), (9, 9, 3, 3)],
)
def test_the_tail_is_the_hypergeometric_one(population, marked, drawn, hits):
    expected = hypergeom.sf(hits - 1, population, marked, drawn)
    assert tail(population, marked, drawn, hits) == pytest.approx(expected, rel=1e-9)
