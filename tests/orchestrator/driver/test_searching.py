"""Searches of real runs in real directories: what is proposed, counted, told, and taken up again."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from orchestrator.inspect.status import sweep_status
from orchestrator.inspect.verify import verify
from orchestrator.planning.search_question import asked_runs
from orchestrator.store.index_reader import read_index
from orchestrator.store.layout import Layout
from orchestrator.store.proposals import read_proposals
from orchestrator.store.search_words import search_text
from sweeps.compose import compose_sweep
from sweeps.grid.columns import SEED_KEY
from sweeps.spec.errors import SpecError
from tests.orchestrator.searches import search, searched, stored


def proposals(folder):
    return read_proposals(Layout(folder))


def trials(folder):
    return [r for r in proposals(folder) if not r.held_out]


def rows(folder):
    return pq.read_table(folder / "runs.parquet").to_pylist()


def test_a_search_runs_its_trials_and_the_best_one_on_further_seeds(tmp_path):
    summary = search(tmp_path, searched())
    facts = summary.search
    assert (facts["trials"], facts["trials_asked"], facts["kind"], facts["metric"]) == (
        12,
        12,
        "tpe",
        "score",
    )
    assert summary.committed == summary.expected == 12 + 3
    found = {row["run_id"]: row for row in rows(tmp_path)}
    by_trial = [found[r.runs[0]] for r in trials(tmp_path)]
    assert all(
        row["trainer.params.x"] == r.point["trainer.params.x"]
        for row, r in zip(by_trial, trials(tmp_path), strict=True)
    )
    best = max(by_trial, key=lambda row: row["score"])
    assert facts["best"]["run_id"] == best["run_id"]
    assert facts["best"]["value"] == best["score"]
    [further] = [r for r in proposals(tmp_path) if r.held_out]
    assert further.seeds == (1, 2, 3)
    assert facts["best"]["held_out"] == pytest.approx(sum(found[r]["score"] for r in further.runs) / 3)
    assert {found[r]["trainer.params.x"] for r in further.runs} == {best["trainer.params.x"]}
    verdict = verify(Layout(tmp_path), stored(tmp_path))
    assert verdict.ok
    assert (verdict.expected, verdict.foreign) == (15, 0)


def test_status_says_where_a_search_stands(tmp_path):
    summary = search(tmp_path, searched(trials=3))
    status = sweep_status(tmp_path)
    assert status["search"] == summary.search
    text = search_text(status["search"])
    assert text.startswith("search: 3 of 3 trials by tpe; best score ")
    assert "(1 seed; " in text
    assert text.endswith("on 3 others)")


def test_status_says_what_was_asked_last_where_nothing_is_left_to_run(tmp_path):
    words = ("search.held_out_seeds=0",)
    search(tmp_path, searched(*words, trials=4))
    again = search(tmp_path, searched(*words, trials=3, kind="random"))
    assert again.new == 0
    assert sweep_status(tmp_path)["search"] == again.search
    assert (again.search["kind"], again.search["trials_asked"]) == ("random", 3)


@pytest.mark.parametrize("pool", ["inline", "local"])
def test_one_trial_at_a_time_is_the_same_search_on_any_workers(tmp_path, pool):
    words = ("search.max_concurrent=1",)
    search(tmp_path / "first", searched(*words))
    search(tmp_path / "second", searched(*words), pool=pool, num_workers=2 if pool == "local" else None)
    assert [r.point for r in trials(tmp_path / "first")] == [r.point for r in trials(tmp_path / "second")]
    assert [r.after for r in trials(tmp_path / "first")][1:] == [(k,) for k in range(11)]


def test_a_finished_search_is_launched_again_without_a_run(tmp_path):
    first = search(tmp_path, searched())
    again = search(tmp_path, searched())
    assert (again.new, again.search) == (0, first.search)
    assert len(proposals(tmp_path)) == 13


def test_more_trials_go_on_where_it_stood(tmp_path):
    words = ("search.max_concurrent=1", "search.held_out_seeds=0")
    search(tmp_path / "parts", searched(*words, trials=5))
    more = search(tmp_path / "parts", searched(*words, trials=12))
    search(tmp_path / "whole", searched(*words, trials=12))
    assert more.new == 7
    assert [r.point for r in trials(tmp_path / "parts")] == [r.point for r in trials(tmp_path / "whole")]
    assert verify(Layout(tmp_path / "parts"), stored(tmp_path / "parts")).ok


def test_a_wider_space_keeps_the_trials_that_are_there(tmp_path):
    search(tmp_path, searched(x="interval(0,0.2)", trials=6))
    more = search(tmp_path, searched(x="interval(0,1)", trials=14))
    assert more.search["trials"] == 14
    points = [r.point["trainer.params.x"] for r in trials(tmp_path)]
    assert max(points[:6]) <= 0.2 < max(points[6:])
    assert verify(Layout(tmp_path), stored(tmp_path)).ok


def test_a_trial_is_the_mean_of_its_seeds(tmp_path):
    summary = search(tmp_path, searched("search.seeds_per_trial=2", trials=4))
    found = {row["run_id"]: row["score"] for row in rows(tmp_path)}
    assert all(r.seeds == (0, 1) and len(r.runs) == 2 for r in trials(tmp_path))
    values = [sum(found[run] for run in r.runs) / 2 for r in trials(tmp_path)]
    assert summary.search["best"]["value"] == pytest.approx(max(values))
    assert summary.search["best"]["seeds"] == 2
    assert {row[SEED_KEY] for row in rows(tmp_path)} == {0, 1, 2, 3, 4}, (
        "two of the axis are left, one is behind it"
    )


def test_seeds_that_chose_the_best_trial_in_an_earlier_launch_are_not_held_out(tmp_path):
    search(tmp_path, searched("search.seeds_per_trial=2", "search.held_out_seeds=0", trials=4))
    search(tmp_path, searched("search.held_out_seeds=3", trials=4))
    [further] = [r for r in proposals(tmp_path) if r.held_out]
    assert further.seeds == (2, 3, 4)
    assert not set(further.runs) & {run for r in trials(tmp_path) for run in r.runs}


def test_choices_and_intervals_are_searched_together(tmp_path):
    summary = search(
        tmp_path, searched("+trainer.params.kind=good,bad", trials=30), pool="local", num_workers=1
    )
    assert summary.search["best"]["point"]["trainer.params.kind"] == "good"
    assert summary.search["best"]["value"] > 0.4


def test_a_failed_trial_has_no_value_and_a_diverged_one_the_worst(tmp_path):
    failing = search(
        tmp_path / "failing", searched("search.held_out_seeds=0", fails_above=0.5, kind="random")
    )
    failed = [r for r in rows(tmp_path / "failing") if r["outcome"] in ("failed", "quarantined")]
    assert failing.failed == len(failed) > 0
    assert failing.search["trials"] == 12
    assert failing.search["best"]["point"]["trainer.params.x"] <= 0.5
    words = ("search.held_out_seeds=0",)
    diverging = search(tmp_path / "diverging", searched(*words, diverges_above=0.5, kind="random"))
    assert diverging.diverged > 0
    assert diverging.search["best"]["point"]["trainer.params.x"] <= 0.5


def test_while_named_runs_are_run_again_it_proposes_nothing_and_says_where_it_stands(tmp_path):
    search(tmp_path, searched(trials=4, kind="random", fails_above=0.5))
    before = proposals(tmp_path)
    failed = set(read_index(Layout(tmp_path), stored(tmp_path).run_ids).book.notes)
    assert failed
    summary = search(tmp_path, searched(trials=9, kind="random", fails_above=0.5), again=failed)
    assert proposals(tmp_path) == before
    assert summary.search["trials"] == 4
    assert sweep_status(tmp_path)["search"] == summary.search


def test_every_whole_number_of_an_interval_is_tried_before_it_ends(tmp_path):
    summary = search(tmp_path, searched(trials=9, x="int(interval(1,9))"))
    assert {r.point["trainer.params.x"] for r in trials(tmp_path)} == set(range(1, 10))
    assert summary.search["trials"] == 9


def test_a_space_that_is_smaller_than_the_budget_is_run_whole():
    asked = asked_runs(
        compose_sweep(
            ["sweep=noop", "search=tpe", "seed=range(4)", "+trainer.params.x=1,2,3", "search.trials=3"]
        )
    )
    assert "the axes have 3 choices, no more than search.trials=3: all of them are run" in asked.note
    assert len(asked.manifest) == 3
    assert {asked.manifest.spec(i).seed for i in range(3)} == {0}
    assert asked.manifest.options["search"] == {"kind": "none"}


def test_choices_that_were_tried_cost_no_trial_and_all_are_tried_before_it_ends(tmp_path):
    summary = search(
        tmp_path, searched("search.held_out_seeds=0", x="0.1,0.2,0.3,0.4,0.5", trials=4, kind="random")
    )
    assert (summary.search["trials"], summary.committed) == (4, 4)
    more = search(tmp_path, searched("search.held_out_seeds=0", x="0.1,0.2,0.3,0.4,0.5,0.6", trials=5))
    assert more.search["trials"] == 5


def test_what_is_excluded_is_not_run(tmp_path):
    file = tmp_path / "s.yaml"
    file.write_text(
        "# @package _global_\n"
        "defaults:\n"
        "- {override /trainer: noop}\n- {override /example: text}\n"
        "- {override /eval: none}\n- {override /search: random}\n"
        "search: {trials: 10, held_out_seeds: 0, metric: draw}\n"
        "trainer: {metrics: {draw: {direction: max}}, params: {}}\n"
        "sweep: {axes: {optim.lr: 'interval(0.1,0.9)', seed: [0]}, exclude: ['optim.lr>0.5']}\n"
    )
    manifest = asked_runs(compose_sweep([f"sweep={file}"])).manifest
    summary = search(tmp_path / "out", manifest)
    assert summary.search["trials"] == 10
    found = trials(tmp_path / "out")
    refused = [r for r in found if r.refused]
    assert refused
    assert all(r.point["optim.lr"] > 0.5 and not r.runs for r in refused)
    assert all(row["optim.lr"] <= 0.5 for row in rows(tmp_path / "out"))


def test_a_budget_ends_a_search(tmp_path):
    words = ("search.gpu_hours=1e-9", "search.max_concurrent=1", "resources.gpus_per_worker=0")
    summary = search(tmp_path, searched(*words))
    assert summary.search["trials"] == 12, "no GPU, no hours"


def test_a_metric_that_is_another_thing_now_does_not_go_on_where_the_search_stood(tmp_path):
    search(tmp_path, searched(trials=3))
    with pytest.raises(SpecError, match=r"metrics\.score=.*min.*: the search in this directory has .*max"):
        search(tmp_path, searched("trainer.metrics.score.direction=min", trials=5))
    with pytest.raises(SpecError, match=r"trainer\.metrics\.other=.*: the search in this directory has None"):
        search(tmp_path, searched("search.metric=other", "+trainer.metrics.other.direction=min", trials=5))


def test_a_grid_is_not_searched_on(tmp_path):
    from tests.orchestrator.sweeping import noop_manifest, run

    run(tmp_path, noop_manifest(4))
    with pytest.raises(SpecError, match=r"holds the runs of a grid.*--dir"):
        search(tmp_path, searched())


def test_a_metric_that_no_run_has_leaves_trials_without_a_value(tmp_path):
    summary = search(
        tmp_path, searched("search.metric=other", "+trainer.metrics.other={direction: max}", trials=3)
    )
    assert (summary.search["trials"], summary.search["best"]) == (3, None)
    assert search_text(summary.search).endswith("3 of 3 trials by tpe; none has a value yet")
