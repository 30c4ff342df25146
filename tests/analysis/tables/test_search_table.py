"""Trials of a search as tables and pages show them."""

from __future__ import annotations

import shutil

import pytest

from analysis import open_sweep
from analysis.tables.best_cells import best_cells
from analysis.tables.cell_table import cell_table, closing_table, headline
from analysis.tables.search_table import best_trials, search_sentence, search_table
from orchestrator.store.layout import Layout
from orchestrator.store.proposals import read_proposals
from sweeps.spec.errors import UserError
from tests.orchestrator.searches import search, searched
from tests.orchestrator.sweeping import noop_manifest, run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search") / "finished"
    search(folder, searched("search.seeds_per_trial=2", trials=6, kind="random", fails_above=0.8))
    return folder


def test_trials_come_best_first_with_held_out_seeds_beside_the_best(finished):
    sweep = open_sweep(finished)
    frame = search_table(sweep).frame
    value_of = dict(zip(sweep.runs()["run_id"], sweep.runs()["score"], strict=True))
    records = {r.number: r for r in read_proposals(Layout(finished)) if not r.held_out}
    for row in frame.itertuples():
        values = [value_of[run] for run in records[row.trial].runs if value_of[run] == value_of[run]]
        assert row.n == len(values)
        if values:
            assert row.value == pytest.approx(sum(values) / len(values))
        else:
            assert row.state == "2 of 2 without a value"
    known = frame["value"].dropna().tolist()
    assert known == sorted(known, reverse=True)
    assert frame["held_out_n"].tolist() == [3] + [0] * 5
    [further] = [r for r in read_proposals(Layout(finished)) if r.held_out]
    assert frame["held_out"][0] == pytest.approx(sum(value_of[run] for run in further.runs) / 3)


def test_the_sentence_tells_the_best_on_both_kinds_of_seeds(finished):
    sweep = open_sweep(finished)
    table = search_table(sweep)
    failed = int((table.frame["state"] != "done").sum())
    best = table.frame.iloc[0]
    others = f", {failed} with runs to come, stopped early or without a value" if failed else ""
    value, held_out = best["value"], best["held_out"]
    assert search_sentence(sweep) == (
        f"Search by random for the highest score: {6 - failed} of 6 trials done{others}. "
        f"Best: trial {best['trial']}, trainer.params.x={best['trainer.params.x']:.4g}, {value:.4g} on "
        f"2 seeds that chose it and {held_out:.4g} on 3 seeds that did not."
    )
    assert headline(sweep) == [search_sentence(sweep)]
    assert search_sentence(sweep) in closing_table(finished).replace("\n  ", " ")


def test_every_other_table_says_that_runs_were_chosen(finished):
    sweep = open_sweep(finished)
    assert any(note.startswith("A search chose these runs") for note in cell_table(sweep).notes)
    assert cell_table(sweep, by="trial").title == "trials by score, the best first"
    with pytest.raises(UserError, match=r"a search chose these cells.*--by trial"):
        best_cells(sweep)


def test_a_grid_has_no_trials(tmp_path):
    run(tmp_path, noop_manifest(3))
    with pytest.raises(UserError, match="this sweep is no search"):
        cell_table(open_sweep(tmp_path), by="trial")


def test_a_copy_without_journals_does_not_know_its_trials(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "copy")
    for journal in Layout(tmp_path / "copy").journal_paths():
        journal.unlink()
    sentence = search_sentence(open_sweep(tmp_path / "copy"))
    assert sentence == "Search by random: its trials are not known here, since this copy has no journals."


def test_the_first_trials_of_many(finished):
    table = search_table(open_sweep(finished))
    few = best_trials(table, 2)
    assert (len(few.frame), few.title) == (2, "trials by score, the best first: 2 of 6")
    assert best_trials(table, 6) is table


def test_filters_are_about_the_trials_that_are_looked_at(finished):
    low = open_sweep(finished).where("trainer.params.x<0.5")
    frame = search_table(low).frame
    assert 0 < len(frame) < 6
    assert (frame["trainer.params.x"] < 0.5).all()
    assert f"{len(frame)} of {len(frame)} that are looked at done. Best: " in search_sentence(low)
    one_seed = search_table(open_sweep(finished).where("seed=0")).frame
    assert set(one_seed["state"]) <= {"done", "1 of 1 without a value"}, "of the seeds that are looked at"
    assert "has not been run on others" in search_sentence(open_sweep(finished).where("seed=0"))


def test_held_out_seeds_without_a_value_are_no_seeds_that_were_not_run(tmp_path):
    words = ("seed=range(2)", "search.held_out_seeds=1", "search.max_concurrent=1")
    search(tmp_path, searched(*words, trials=3, kind="random", fails_on="[1]"))
    assert "; of 1 seed that did not, none has a value." in search_sentence(open_sweep(tmp_path))


@pytest.mark.parametrize("counted_as", ["worst", "left_out"])
def test_diverged_trials_have_the_value_that_the_search_gave_them(tmp_path, counted_as):
    words = (f"search.diverged={counted_as}", "search.held_out_seeds=1")
    best = search(tmp_path, searched(*words, kind="random", trials=8, diverges_above=0.3)).search["best"]
    frame = search_table(open_sweep(tmp_path)).frame
    diverged = frame[frame["trainer.params.x"] > 0.3]
    assert 0 < len(diverged) < 8
    if counted_as == "worst":
        assert (diverged["value"] == -100).all()
        assert set(diverged["state"]) == {"done, 1 of 1 diverged"}
    else:
        assert diverged["value"].isna().all()
        assert set(diverged["state"]) == {"1 of 1 without a value"}
    first = frame.iloc[0]
    assert (first["trial"], first["value"]) == (best["trial"], pytest.approx(best["value"]))
    assert first["held_out"] == pytest.approx(best["held_out"])


def test_values_outside_of_the_range_are_none_that_the_search_went_by(tmp_path):
    narrow = "trainer.metrics.score.range=[-100,-0.05]"
    best = search(tmp_path, searched(narrow, kind="random", trials=8)).search["best"]
    frame = search_table(open_sweep(tmp_path)).frame
    assert frame["value"].max() <= -0.05
    assert set(frame["state"]) == {"done", "1 of 1 without a value"}
    assert (frame["trial"][0], frame["value"][0]) == (best["trial"], pytest.approx(best["value"]))


def test_lists_and_mappings_are_shown_as_in_other_tables(tmp_path):
    search(tmp_path, searched(kind="random", trials=4, k="choice({a:1},[2,3])"))
    shown = search_table(open_sweep(tmp_path)).frame["trainer.params.k"]
    assert set(shown) == {'{"a":1}', "[2,3]"}


def test_trials_of_damaged_journals_are_not_known(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "copy")
    [journal] = Layout(tmp_path / "copy").journal_paths()
    journal.write_bytes(journal.read_bytes()[:-400] + b"x" * 400)
    assert "its trials are not known here, since journal driver-00001.jsonl is damaged" in search_sentence(
        open_sweep(tmp_path / "copy")
    )
