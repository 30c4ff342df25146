"""Early stopping of real runs in real directories: who is stopped, counted, told, and run again."""

from __future__ import annotations

import shutil

import pyarrow.parquet as pq
import pytest

from analysis import open_sweep
from analysis.tables.cell_table import cell_table
from orchestrator.driver.deciding import deciding_of
from orchestrator.inspect.status import sweep_status
from orchestrator.inspect.verify import verify
from orchestrator.planning.prune_question import prune_question
from orchestrator.store.fencing import journal_lines
from orchestrator.store.index_reader import read_index
from orchestrator.store.layout import Layout
from orchestrator.store.proposals import read_proposals
from orchestrator.store.records import StopRecord, record_of
from orchestrator.store.reports import report_line
from orchestrator.store.spool import SpoolHealth
from sweeps.compose import compose_sweep
from sweeps.manifest.build import build_manifest
from sweeps.spec.errors import SpecError
from tests.orchestrator.searches import search, searched, stored
from tests.orchestrator.sweeping import run
from tests.orchestrator.trainers import HERE

SCORE = "trainer.metrics.score={direction: max, range: [-100, 100]}"


def pruned(*words, prune=("prune=asha", "prune.reduction=2"), heights="1,0.5,2,0.1", seeds=1, **params):
    more = [f"+trainer.params.{key}={value}" for key, value in params.items()]
    return build_manifest(
        compose_sweep(
            [
                "sweep=noop",
                f"trainer.target={HERE}.Curve",
                f"+trainer.params.height={heights}",
                f"seed=range({seeds})",
                f"+{SCORE}",
                *more,
                *prune,
                *words,
            ]
        )
    )


def rows(folder):
    return pq.read_table(folder / "runs.parquet").to_pylist()


def outcomes(folder):
    return {row["trainer.params.height"]: row["outcome"] for row in rows(folder)}


def stops(folder):
    records = (record_of(line.header) for line in journal_lines(Layout(folder), SpoolHealth(), live=True))
    return [record for record in records if isinstance(record, StopRecord)]


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A sweep two of whose four runs were stopped, and how it ended; to be read only."""
    folder = tmp_path_factory.mktemp("pruned") / "sweep"
    return folder, run(folder, pruned(), pool="local", num_workers=1)


@pytest.fixture
def copied(ended, tmp_path):
    """A copy of it."""
    shutil.copytree(ended[0], tmp_path / "copy")
    return tmp_path / "copy"


def test_runs_that_do_badly_are_stopped_and_have_no_result(ended):
    (tmp_path, summary), manifest = ended, pruned()
    assert outcomes(tmp_path) == {1.0: "done", 0.5: "stopped", 2.0: "done", 0.1: "stopped"}
    assert (summary.stopped, summary.committed, summary.failed) == (2, 2, 0)
    assert all(row["score"] is None for row in rows(tmp_path) if row["outcome"] == "stopped")
    found = {
        manifest.axis_values(manifest.index_of[r.run_id])["trainer.params.height"]: r for r in stops(tmp_path)
    }
    assert {height: (r.step, r.value) for height, r in found.items()} == {0.5: (1, 0.5), 0.1: (1, 0.1)}
    assert found[0.5].rule == {"kind": "asha", "min_steps": 1, "reduction": 2, "metric": "score"}
    verdict = verify(Layout(tmp_path), manifest)
    assert verdict.ok
    assert (verdict.stopped, verdict.missing) == (2, 0)
    assert sweep_status(tmp_path)["counts"]["stopped"] == 2


def test_tables_count_them_and_average_the_others(ended):
    table = cell_table(open_sweep(ended[0]))
    assert table.frame["n"].tolist() == [0, 0, 1, 1], "rows by height"
    assert table.frame["stopped"].tolist() == [1, 1, 0, 0]
    notes = " ".join(table.notes)
    assert "Of 4 runs 2 have none (2 stopped early)" in notes
    assert "Runs that did badly early were stopped (prune=asha)" in notes


def test_a_stopped_run_stays_so_and_runs_on_without_the_option(copied):
    manifest = pruned()
    again = run(copied, manifest, pool="local", num_workers=1)
    assert (again.new, again.stopped) == (0, 2)
    assert len(stops(copied)) == 2
    whole = run(copied, pruned(prune=()), pool="local", num_workers=2)
    assert (whole.new, whole.stopped, whole.committed) == (2, 0, 4)
    assert verify(Layout(copied), manifest).ok
    assert [row["score"] for row in rows(copied)] == [
        2 * row["trainer.params.height"] for row in rows(copied)
    ]


def test_what_earlier_drivers_heard_counts_for_the_next(copied):
    more = run(copied, pruned(heights="1,0.5,2,0.1,0.6"), pool="local", num_workers=1)
    assert (more.stopped, more.new) == (3, 0)


def test_a_report_of_more_digits_than_a_float_holds_counts_as_none(copied):
    layout = Layout(copied)
    run_id = rows(copied)[0]["run_id"]
    head = {"kind": "step", "run_id": run_id, "attempt": 0, "token": 99}
    (layout.reports / "other.jsonl").write_bytes(report_line(head, 3, {"score": 10**400}, 0.0))
    again = run(copied, pruned(), pool="local", num_workers=1)
    assert (again.committed, again.stopped) == (2, 2)


def test_a_trainer_that_does_not_listen_is_stopped_all_the_same(tmp_path):
    summary = run(tmp_path, pruned(heights="1,0.5", deaf=True), pool="local", num_workers=1)
    assert summary.stopped == 1, "what it returns once it was told is not the whole run's"


def test_a_metric_that_is_never_reported_is_said_once_and_the_sweep_goes_on(tmp_path, capsys):
    manifest = pruned(heights="1,2,3", called="other", step_s=0.2)
    assert run(tmp_path, manifest, quiet=False).committed == 3
    told = capsys.readouterr().err
    assert told.count("prune=asha stops nothing: the first run has ended and did not report score") == 1
    assert "it reported other: name one with prune.metric=" in told


def test_a_trainer_that_reports_nothing_is_told_how(tmp_path, capsys):
    manifest = pruned("trainer.params.height=1", f"trainer.target={HERE}.Lucky", effect="1,2", sleep_s=0.1)
    assert run(tmp_path, manifest, quiet=False).committed == 2
    assert "report it while it trains, as report(step, score=…)" in capsys.readouterr().err


def test_a_search_learns_of_stopped_trials_and_checks_its_best_to_the_end(tmp_path):
    words = (
        f"trainer.target={HERE}.Curve",
        "+trainer.params.height=interval(0,1)",
        "+trainer.params.step_s=0.5",
    )
    curve = searched(*words, "prune=asha", "prune.reduction=2", trials=8)
    summary = search(tmp_path, curve, pool="local", num_workers=2)
    assert summary.search["trials"] == 8
    assert 1 <= summary.stopped < 8
    assert summary.search["best"]["held_out_seeds"] == 3, "those are not stopped"
    assert verify(Layout(tmp_path), stored(tmp_path)).ok


def test_held_out_seeds_are_not_stopped_where_named_runs_are_run_again(tmp_path):
    curve = searched(
        f"trainer.target={HERE}.Curve",
        "+trainer.params.height=interval(0,1)",
        "+trainer.params.step_s=0",
        "prune=asha",
        "prune.reduction=2",
        "search.held_out_seeds=1",
        trials=3,
    )
    search(tmp_path, curve, pool="local", num_workers=1)
    layout, manifest = Layout(tmp_path), stored(tmp_path)
    [held_out] = [run_id for r in read_proposals(layout) if r.held_out for run_id in r.runs]
    for path in [*layout.reports.glob("*.jsonl"), *layout.spools.glob("e*.jsonl")]:
        path.unlink()
    book = read_index(layout, manifest.run_ids).book
    for index in range(len(manifest)):
        book.reopen(index)
    pruning = deciding_of(layout, manifest, book, None, print, only=range(len(manifest))).pruning
    others = [run_id for run_id in manifest.run_ids if run_id != held_out]
    told = [(others[0], 2.0), (others[1], 3.0), (held_out, 0.1), (others[2], 0.1)]
    head = {"kind": "step", "attempt": 0, "token": 9}
    lines = [report_line({**head, "run_id": run}, 1, {"score": score}, 0.0) for run, score in told]
    (layout.reports / "one.jsonl").write_bytes(b"".join(lines))
    assert [record.run_id for record, _ in pruning.stopped(0.0)] == [others[2]]


def test_a_pool_that_hears_nothing_of_running_runs_says_so(tmp_path, capsys):
    assert run(tmp_path, pruned(step_s=0), pool="inline", quiet=False).stopped == 0
    assert "--pool inline hears of a run once it is over: prune stops nothing" in capsys.readouterr().err


def test_the_journals_alone_know_them(copied):
    manifest = pruned()
    (copied / "state.sqlite").unlink()
    for path in Layout(copied).reports.glob("*.jsonl"):
        path.unlink()
    book = read_index(Layout(copied), manifest.run_ids).book
    assert len(book.stopped()) == len(book.stops) == 2
    assert run(copied, manifest, pool="local", num_workers=1).stopped == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("search=race", "search.base=0"), "would make a race see an effect where there is luck"),
        (("prune.metric=other",), r"prune\.metric=other: which way it is better is not said"),
    ],
)
def test_what_cannot_be_stopped_early_is_refused(words, message):
    with pytest.raises(SpecError, match=message):
        prune_question(pruned(*words, seeds=16))


@pytest.mark.parametrize(
    "prune",
    [
        ("prune=median", "prune.startup_runs=1", "prune.min_steps=1"),
        ("prune=wilcoxon", "prune.p=0.3"),
    ],
)
def test_runs_that_report_the_metric_and_do_not_return_it_are_learned_of_too(tmp_path, prune):
    words = ("prune.metric=told", "+trainer.metrics.told={direction: max}")
    manifest = pruned(*words, prune=prune, heights="2,0.5", called="told", steps=5, step_s=0.4)
    summary = run(tmp_path, manifest, pool="local", num_workers=1)
    assert outcomes(tmp_path) == {2.0: "done", 0.5: "stopped"}
    assert summary.stopped == 1
