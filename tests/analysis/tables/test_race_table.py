"""Tables of a race: which seeds count, what intervals are, who was decided, and what other tables say."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from analysis import open_sweep
from analysis.data.race import race_seen
from analysis.stats.anytime import anytime_interval
from analysis.tables.best_cells import best_cells
from analysis.tables.cell_table import headline
from analysis.tables.race_table import open_cells
from orchestrator.store.layout import Layout
from sweeps.spec.errors import UserError
from tests.orchestrator.races import raced
from tests.orchestrator.sweeping import run

EFFECT = "trainer.params.effect"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raced") / "sweep"
    run(folder, raced(effects="-20,0,5,20"))
    return folder


@pytest.fixture(scope="module")
def sweep(folder):
    return open_sweep(folder)


def rows_by_effect(table):
    return table.frame.set_index(EFFECT)


def test_each_cell_has_the_seeds_it_had_and_says_how_it_left(sweep):
    rows, runs = rows_by_effect(sweep.cell_table()), sweep.runs()
    done = runs[runs.outcome == "done"].groupby(EFFECT).size()
    assert rows["n"].to_dict() == done.to_dict()
    assert rows.loc[0.0, "verdict"] == "open"
    assert rows.loc[20.0, "verdict"] == f"above after {race_seeds(sweep, 20.0)}"
    assert rows.loc[-20.0, "verdict"].startswith("below after ")
    assert rows["missing"].sum() == 0
    assert rows["skipped"].sum() == sweep.counts()["skipped"] > 0


def race_seeds(sweep, effect):
    runs = sweep.runs().set_index("run_id")[EFFECT].to_dict()
    [found] = [d.num_seeds for d in race_seen(sweep.sources).decisions if runs[d.cells[0]] == effect]
    return found


def test_the_interval_of_a_cell_is_that_of_its_decision_on_the_same_seeds(sweep):
    effect_of = sweep.runs().set_index("run_id")[EFFECT].to_dict()
    decisions = race_seen(sweep.sources).decisions
    assert len(decisions) == 3
    for decision in decisions:
        effect = effect_of[decision.cells[0]]
        [row] = sweep.where(f"effect={effect:g}", f"seed<{decision.num_seeds}").cell_table().records()
        assert row["n"] == decision.num_seeds
        assert row["mean_low"] == pytest.approx(decision.low, abs=1e-6)
        assert row["mean_high"] == pytest.approx(decision.high, abs=1e-6)


def test_a_row_of_several_cells_rests_on_the_seeds_that_all_of_them_had(sweep):
    [row] = sweep.cell_table(by=[]).records()
    runs = sweep.runs()
    each = runs[runs.outcome == "done"].groupby(EFFECT).size()
    assert row["n"] == each.min()
    first = runs[runs.seed < row["n"]].groupby("seed").score.mean()
    assert row["mean"] == pytest.approx(first.mean())
    assert row["mean_low"] < row["mean"] < row["mean_high"]
    assert row["unused"] == (each - each.min()).sum()
    assert row["verdict"] == "2 above, 1 below"


def test_notes_say_what_was_asked_and_that_intervals_hold_at_any_stop(sweep):
    notes = " ".join(sweep.cell_table().notes)
    skipped = sweep.counts()["skipped"]
    assert "is each cell above 0 in score; false discovery rate at most 5 %. 3 of 4 cells decided" in notes
    assert f"{skipped} runs of 64 were not needed" in notes
    assert "at any stop" in notes


def test_every_other_table_says_that_its_intervals_do_not_allow_for_the_race(sweep, folder):
    notes = " ".join(open_sweep(folder).warnings)
    assert "each cell left as soon as it was decided" in notes
    with pytest.raises(UserError, match=r"search\.question=best"):
        best_cells(sweep)


def test_the_headline_is_what_was_decided(sweep):
    [line] = headline(sweep)
    counts = sweep.counts()
    assert "3 cells decided (2 above, 1 below)" in line
    assert f"{counts['done']} runs with a result, {counts['skipped']} not needed" in line


def test_the_headline_of_some_cells_is_about_these(folder):
    [line] = headline(open_sweep(folder).where("effect=20"))
    assert "1 cell decided (1 above)" in line
    runs = open_sweep(folder).where("effect=20").counts()
    assert f"{runs['done']} runs with a result, {runs['skipped']} not needed" in line


def test_a_copy_without_journals_says_that_it_does_not_know_why(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("spool"))
    table = open_sweep(copy).cell_table()
    assert set(table.frame["verdict"]) == {"not known"}
    assert any("this copy has no journals" in note for note in table.notes)


def test_filters_leave_the_decisions_of_the_cells_they_keep(folder):
    table = open_sweep(folder).where("effect=20").cell_table()
    assert table.frame["verdict"].tolist()[0].startswith("above after ")


def test_only_cells_that_are_compared_with_others_are_called_open(tmp_path):
    pairs = ("search.question=compare", f"search.a={EFFECT}=20", f"search.b={EFFECT}=0")
    run(tmp_path, raced(effects="0,20,50", search=("search=race", *pairs)))
    sweep = open_sweep(tmp_path)
    verdicts = rows_by_effect(sweep.cell_table())["verdict"].to_dict()
    assert verdicts[20.0].startswith("above after ")
    assert (verdicts[0.0], verdicts[50.0]) == ("", "")
    assert open_cells(sweep, race_seen(sweep.sources), most=5).frame.empty


def test_a_filter_of_seeds_leaves_the_decisions(folder, sweep):
    later = open_sweep(folder).where("seed>2").cell_table()
    assert later.frame["verdict"].tolist() == sweep.cell_table().frame["verdict"].tolist()


def test_an_interval_of_too_few_values_is_none_and_stays_within_the_range():
    few, many = [0.5] + [np.nan] * 7, [0.9, 0.99, 0.95, 0.97, 0.99, 0.91, 0.93, 0.98]
    found = anytime_interval(np.array([few, many]), bounds=(0.0, 1.0))
    assert np.isnan(found.low[0])
    assert found.n.tolist() == [1, 8]
    assert found.low[1] < np.mean(many) < found.high[1] <= 1.0


def test_a_damaged_journal_says_nothing_of_what_was_decided(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    [journal] = Layout(copy).journal_paths()
    text = journal.read_bytes()
    at = text.index(b'"kind":"decision"')
    journal.write_bytes(text[:at] + b"X" + text[at + 1 :])
    table = open_sweep(copy).cell_table()
    assert set(table.frame["verdict"]) == {"not known"}
    assert any("is damaged: emsweep repair" in note for note in table.notes)


def test_cells_that_were_open_when_the_budget_was_spent_say_so(tmp_path):
    run(tmp_path, raced(search=("search=race", "search.base=0", "search.runs=6")))
    assert set(open_sweep(tmp_path).cell_table().frame["verdict"]) == {"open when the budget was spent"}


def test_seeds_that_were_not_needed_are_not_missing(sweep):
    rows = sweep.cell_table(by="seed").frame
    assert rows["missing"].sum() == 0
    assert rows["n"].sum() == sweep.counts()["done"]
