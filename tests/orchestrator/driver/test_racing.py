"""Races of real runs in real directories: who leaves when, what is spared, what a resumed driver knows."""

from __future__ import annotations

import contextlib

import pyarrow.parquet as pq
import pytest

from analysis import open_sweep
from analysis.data.race import race_seen
from orchestrator.driver.racing import Racing
from orchestrator.driver.session import Session
from orchestrator.inspect.status import sweep_status
from orchestrator.inspect.verify import verify
from orchestrator.planning.race_question import race_question
from orchestrator.store.decisions import read_decisions
from orchestrator.store.index_reader import read_index, results_of
from orchestrator.store.layout import Layout
from orchestrator.store.spool import LineReader
from orchestrator.trust.consent import consent_of
from orchestrator.trust.gate import permit
from sweeps.spec.errors import SpecError
from tests.orchestrator.races import raced
from tests.orchestrator.sweeping import run


def decided(folder):
    """What each cell's decision says, by the name of its first run."""
    manifest_ids = {row["run_id"]: row["trainer.params.effect"] for row in rows(folder)}
    return {
        tuple(manifest_ids[run_id] for run_id in d.cells): (d.side, d.num_seeds)
        for d in read_decisions(Layout(folder))
    }


def rows(folder):
    return pq.read_table(folder / "runs.parquet").to_pylist()


def test_cells_leave_once_they_are_decided_and_their_other_runs_are_not_run(tmp_path):
    manifest = raced()
    summary = run(tmp_path, manifest)
    found = decided(tmp_path)
    assert {effect: side for (effect,), (side, _) in found.items()} == {-20.0: "below", 20.0: "above"}
    assert all(3 <= num < 16 for _, num in found.values())
    assert (summary.decided, summary.undecided) == (2, 1)
    assert summary.skipped == 48 - summary.committed > 0
    outcomes = [row["outcome"] for row in rows(tmp_path) if row["trainer.params.effect"] == 0.0]
    assert outcomes == ["done"] * 16, "the undecided cell has all its seeds"
    verdict = verify(Layout(tmp_path), manifest)
    assert verdict.ok
    assert (verdict.skipped, verdict.missing) == (summary.skipped, 0)


def test_seeds_run_in_their_order_and_every_cell_of_a_round_before_the_next(tmp_path):
    run(tmp_path, raced(effects="-0.1,0,0.1", seeds=6))
    in_order = sorted(rows(tmp_path), key=lambda row: row["finished_at"])
    assert [row["seed"] for row in in_order] == sorted(row["seed"] for row in in_order)


def test_decisions_do_not_depend_on_the_workers(tmp_path):
    manifest = raced()
    run(tmp_path / "whole", manifest)
    run(tmp_path / "local", manifest, pool="local", num_workers=2)
    assert decided(tmp_path / "local") == decided(tmp_path / "whole")


def test_a_finished_race_is_resumed_without_a_run_and_says_the_same(tmp_path):
    manifest = raced()
    first = run(tmp_path, manifest)
    before = decided(tmp_path)
    again = run(tmp_path, manifest)
    assert (again.new, again.decided, again.undecided) == (0, first.decided, first.undecided)
    assert decided(tmp_path) == before


def test_seeds_that_are_added_to_decided_cells_are_skipped(tmp_path):
    run(tmp_path, raced())
    more = run(tmp_path, raced(seeds=20))
    assert more.new == 4, "those of the undecided cell"
    assert verify(Layout(tmp_path), raced(seeds=20)).ok
    assert decided(tmp_path).keys() == {(-20.0,), (20.0,)}


BEST = {"search": ("search=race", "search.question=best")}


def test_which_cell_is_best_is_asked_anew_once_there_are_others(tmp_path):
    run(tmp_path, raced(effects="0,20", **BEST))
    more = run(tmp_path, raced(effects="0,20,60", **BEST))
    assert (more.decided, more.undecided) == (3, 0)
    sides = {effect: side for (effect,), (side, _) in decided(tmp_path).items()}
    assert sides == {0.0: "beaten", 20.0: "beaten", 60.0: "best"}
    less = run(tmp_path, raced(effects="0,20", **BEST))
    assert (less.decided, less.undecided) == (2, 0)
    assert sides_seen(tmp_path) == ["beaten", "best"]
    assert verify(Layout(tmp_path), raced(effects="0,20", **BEST)).ok


def sides_seen(folder):
    """Sides of the decisions that readers are shown."""
    return sorted(decision.side for decision in race_seen(open_sweep(folder).sources).decisions)


def test_cells_whose_first_seed_left_the_grid_are_decided_anew(tmp_path):
    run(tmp_path, raced())
    summary = run(tmp_path, raced("seed=range(1,18)"))
    assert (summary.decided, summary.undecided) == (2, 1)
    assert sides_seen(tmp_path) == ["above", "below"]


@pytest.mark.parametrize("search", [("search=none",), ("search=race", "search.base=20")])
def test_what_another_question_skipped_is_run_whoever_left_off_in_between(tmp_path, search):
    run(tmp_path, raced())
    other = raced(search=search)
    layout = Layout(tmp_path)
    with Session(layout, permit(layout, other, consent_of(other.overrides, launched=True))) as session:
        session.freeze(other, pool="inline", address=None)
    found = sides_seen(tmp_path) if len(search) > 1 else []
    assert found == []
    summary = run(tmp_path, other)
    outcomes = [row["outcome"] for row in rows(tmp_path) if row["trainer.params.effect"] == 20.0]
    assert outcomes == ["done"] * 16
    assert summary.skipped == 0 or len(search) > 1


def test_a_finished_grid_answers_a_question_that_is_asked_later(tmp_path):
    run(tmp_path, raced(search=("search=none",)))
    for _ in range(2):
        summary = run(tmp_path, raced())
        assert (summary.new, summary.skipped) == (0, 0)
        assert (summary.decided, summary.undecided) == (2, 1)
        sides = {effect: side for (effect,), (side, _) in decided(tmp_path).items()}
        assert sides == {-20.0: "below", 20.0: "above"}
        assert sweep_status(tmp_path)["race"] == {"decided": 2, "undecided": 1}
    assert verify(Layout(tmp_path), raced()).ok
    run(tmp_path, raced(search=("search=none",)))
    assert "race" not in sweep_status(tmp_path)


def test_the_index_read_from_the_spools_alone_knows_what_was_skipped(tmp_path):
    manifest = raced()
    summary = run(tmp_path, manifest)
    book = read_index(Layout(tmp_path), manifest.run_ids).book
    assert book.counts()["skipped"] == summary.skipped
    assert len(book.decisions) == 2


def test_a_budget_of_runs_ends_the_race_with_what_is_known(tmp_path):
    manifest = raced(search=("search=race", "search.base=0", "search.runs=6"))
    summary = run(tmp_path, manifest)
    assert summary.committed < 20
    assert (summary.decided, summary.undecided) == (0, 3)
    assert {side for side, _ in decided(tmp_path).values()} == {"ended"}
    assert verify(Layout(tmp_path), manifest).ok


def test_a_failed_run_is_passed_over_and_holds_nobody_up(tmp_path):
    summary = run(tmp_path, raced(failing="[1]"))
    assert summary.failed == 3
    assert (summary.decided, summary.undecided) == (2, 1)


def test_no_decision_does_without_a_run_that_is_asked_for_by_name(tmp_path):
    manifest, layout = raced(failing="[1]"), Layout(tmp_path)
    run(tmp_path, manifest)
    book = read_index(layout, manifest.run_ids).book
    failed = set(book.notes)
    for k in failed:
        book.reopen(k)

    def skipped(asked):
        racing = Racing(race_question(manifest), manifest, book, asked=asked)
        with contextlib.closing(LineReader(layout.spools)) as lines:
            racing.begin(results_of(book, lines))
        return {k for _, runs in racing.decisions(0.0) for k in runs}

    assert len(skipped(()) & failed) == 2, "those of the two decided cells"
    assert not skipped(failed) & failed


@pytest.mark.parametrize(("how", "num_decided"), [("worst", 1), ("left_out", 2)])
def test_a_diverged_run_counts_as_the_worst_value_or_not_at_all(tmp_path, how, num_decided):
    search = ("search=race", "search.base=0", f"search.diverged={how}")
    summary = run(tmp_path, raced(search=search, diverging="[1]"))
    assert summary.diverged >= 2
    assert summary.decided == num_decided, "a loss of 100 makes the cell of +20 uncertain"


def test_pairs_of_cells_are_compared_seed_by_seed(tmp_path):
    words = ["+trainer.params.arm=0,1"]
    search = (
        "search=race",
        "search.question=compare",
        "search.a=trainer.params.effect=20",
        "search.b=trainer.params.effect=0",
    )
    summary = run(tmp_path, raced(*words, effects="0,20", search=search))
    assert (summary.decided, summary.undecided) == (2, 0)
    assert {cells: side for cells, (side, _) in decided(tmp_path).items()} == {(20.0, 0.0): "above"}


BAD = {
    "a seed of cells": (
        {
            "search": (
                "search=race",
                "search.question=compare",
                'search.a="effect=20 seed=1"',
                "search.b=trainer.params.effect=0",
            )
        },
        "chooses cells, each with all its seeds",
    ),
    "base is no number": ({"search": ("search=race", "search.base=nan")}, "must be a finite number"),
    "fewer seeds than needed": ({"seeds": 4}, "search.min_seeds=5: no cell has so many"),
    "base beyond the range": ({"search": ("search=race", "search.base=500")}, "outside of its range"),
    "one seed": ({"seeds": 1}, "add seed=range"),
    "no base": ({"search": ("search=race",)}, "has no value of a base model"),
    "no range": (
        {"words": ["trainer.metrics.score={direction: max, range: [null, null]}"]},
        "no worst value",
    ),
    "no direction": ({"words": ["trainer.metrics.score={direction: none}"]}, "which way it is better"),
    "bounded": (
        {
            "search": ("search=race", "search.base=0", "search.evidence=bounded", "search.diverged=left_out"),
            "words": ["trainer.metrics.score={direction: max, range: [0, null]}"],
        },
        "needs its least and largest value",
    ),
    "a without b": (
        {"search": ("search=race", "search.question=compare", "search.a=seed=1")},
        "takes both search.a and search.b",
    ),
    "no partner": (
        {
            "search": (
                "search=race",
                "search.question=compare",
                "search.a=trainer.params.effect=20",
                "search.b=trainer.params.effect<20",
            )
        },
        "2 partners",
    ),
    "both": (
        {
            "search": (
                "search=race",
                "search.question=compare",
                "search.a=trainer.params.effect=20",
                "search.b=trainer.params.effect>0",
            )
        },
        "in both",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_race_that_these_runs_cannot_answer_is_refused_before_any_runs(tmp_path, case):
    options, says = BAD[case]
    options = dict(options)
    manifest = raced(*options.pop("words", ()), **options)
    with pytest.raises(SpecError, match=says):
        run(tmp_path, manifest)
    assert not list(Layout(tmp_path).spools.glob("e*"))


def test_seeds_that_a_cell_was_not_given_hold_nobody_up(tmp_path):
    manifest = raced("sweep.subset.runs=40")
    assert len(set(zip(manifest.cells, manifest.seeds, strict=True))) == 40 < 3 * 16
    run(tmp_path, manifest)
    sides = {effect: side for (effect,), (side, _) in decided(tmp_path).items()}
    assert sides == {-20.0: "below", 20.0: "above"}


def test_a_value_outside_of_the_declared_range_is_left_out_and_told(tmp_path, capsys):
    words = ["trainer.metrics.score={direction: max, range: [-100, 19]}"]
    summary = run(tmp_path, raced(*words), quiet=False)
    assert "the race leaves out effect20" in capsys.readouterr().err
    assert summary.failed == 0
    assert decided(tmp_path).keys() == {(-20.0,)}


def test_a_race_whose_metric_no_run_has_says_so(tmp_path, capsys):
    words = ["search.metric=other", "+trainer.metrics.other={direction: max, range: [0, 1]}"]
    summary = run(tmp_path, raced(*words), quiet=False)
    assert (summary.decided, summary.skipped) == (0, 0)
    assert "the race has decided nothing: none of 48 results has other" in capsys.readouterr().err
