"""Real sweeps in real directories, through the inline and the local pool."""

from __future__ import annotations

import json
import math
import os
import socket
import sqlite3

import pyarrow.parquet as pq
import pytest

from orchestrator.driver.session import Session
from orchestrator.inspect.verify import verify
from orchestrator.planning.cluster import Cluster
from orchestrator.store.layout import Layout
from orchestrator.store.opening import open_manifest
from orchestrator.trust.consent import consent_of
from orchestrator.trust.gate import permit
from sweeps.spec.errors import UserError
from tests.orchestrator.sweeping import noop_manifest, run
from tests.orchestrator.trainers import HERE


def runs(folder):
    return pq.read_table(folder / "runs.parquet").to_pylist()


def draws(folder):
    return {r["run_id"]: r["draw"] for r in runs(folder)}


def times(folder):
    files = [p for p in folder.rglob("*") if p.is_file() and p.name != "driver.lock"]
    return {p: p.stat().st_mtime_ns for p in files}


@pytest.mark.parametrize("pool", ["inline", "local"])
def test_a_sweep_commits_every_run_once(tmp_path, pool):
    manifest = noop_manifest(200)
    summary = run(tmp_path, manifest, pool=pool, num_workers=2)
    assert (summary.expected, summary.committed, summary.failed) == (200, 200, 0)
    verdict = verify(Layout(tmp_path), manifest)
    assert verdict.ok
    assert verdict.superseded == 0
    assert [r["run_id"] for r in runs(tmp_path)] == manifest.run_ids


def test_results_do_not_depend_on_the_pool(tmp_path):
    manifest = noop_manifest(50)
    run(tmp_path / "a", manifest, pool="inline")
    run(tmp_path / "b", manifest, pool="local", num_workers=2)
    assert draws(tmp_path / "a") == draws(tmp_path / "b")


def test_resuming_a_finished_sweep_changes_nothing(tmp_path):
    manifest = noop_manifest(20)
    run(tmp_path, manifest)
    before = times(tmp_path)
    assert run(tmp_path, manifest).new == 0
    assert times(tmp_path) == before


def test_a_grown_grid_runs_only_what_is_new_and_a_shrunk_one_marks_what_left(tmp_path):
    run(tmp_path, noop_manifest(10))
    grown = noop_manifest(15)
    assert run(tmp_path, grown).new == 5
    assert verify(Layout(tmp_path), grown).ok
    shrunk = noop_manifest(4)
    summary = run(tmp_path, shrunk)
    assert (summary.new, summary.committed, summary.expected) == (0, 4, 4)
    verdict = verify(Layout(tmp_path), shrunk)
    assert verdict.ok
    assert verdict.foreign == 11
    assert [r["index"] for r in runs(tmp_path)] == list(range(4))
    assert run(tmp_path, grown).new == 0, "results that left the grid come back with it"


def test_everything_derived_can_be_deleted_and_is_rebuilt(tmp_path):
    manifest = noop_manifest(30, steps=3)
    run(tmp_path, manifest)
    before = {t: pq.read_table(tmp_path / f"{t}.parquet") for t in ("runs", "steps")}
    for name in ("state.sqlite", "runs.parquet", "steps.parquet", "status.json", "driver.lock"):
        (tmp_path / name).unlink(missing_ok=True)
    assert run(tmp_path, manifest).new == 0
    assert all(
        pq.read_table(tmp_path / f"{t}.parquet").sort_by("index") == before[t].sort_by("index")
        for t in before
    )


def test_a_table_that_was_cut_off_is_written_anew(tmp_path):
    manifest = noop_manifest(30, steps=3)
    run(tmp_path, manifest)
    steps = tmp_path / "steps.parquet"
    whole = pq.read_table(steps)
    steps.write_bytes(steps.read_bytes()[:100])
    assert run(tmp_path, manifest).new == 0
    assert pq.read_table(steps).sort_by("index") == whole.sort_by("index")


def test_a_failing_run_is_quarantined_with_its_traceback_and_the_sweep_goes_on(tmp_path):
    manifest = noop_manifest(40, target=f"{HERE}.Faulty", every=10)
    summary = run(tmp_path, manifest)
    assert (summary.committed, summary.failed) == (36, 4)
    bad = [r for r in runs(tmp_path) if r["outcome"] == "quarantined"]
    assert sorted(r["seed"] for r in bad) == [0, 10, 20, 30]
    assert {r["error"] for r in bad} == {
        f"ArithmeticError: seed {s} does not please me" for s in (0, 10, 20, 30)
    }
    assert len({r["fingerprint"] for r in bad}) == 1
    log = Layout(tmp_path).attempt_log(bad[0]["run_id"], 0).read_text()
    assert "Traceback" in log
    assert "does not please me" in log


def test_a_failed_run_stays_failed_on_resume_and_keeps_its_place_in_the_tables(tmp_path):
    manifest = noop_manifest(12, target=f"{HERE}.Faulty", every=5)
    run(tmp_path, manifest)
    first = runs(tmp_path)
    (tmp_path / "runs.parquet").unlink()
    assert run(tmp_path, manifest).new == 0
    assert runs(tmp_path) == first


def test_a_run_that_fails_once_is_tried_again(tmp_path):
    manifest = noop_manifest(12, target=f"{HERE}.Moody")
    assert run(tmp_path, manifest).committed == 12
    assert {r["attempt"] for r in runs(tmp_path) if r["seed"] % 3 == 0} == {1}


def test_a_run_whose_code_is_wrong_is_tried_once(tmp_path):
    manifest = noop_manifest(4, target=f"{HERE}.Faulty", every=2)
    run(tmp_path, manifest)
    logs = [sorted(p.name for p in (tmp_path / "logs" / manifest.run_ids[i]).iterdir()) for i in (0, 2)]
    assert logs == [["attempt_0.log"]] * 2


def test_a_diverged_run_is_a_result_and_its_numbers_survive(tmp_path):
    manifest = noop_manifest(8, target=f"{HERE}.Diverging")
    summary = run(tmp_path, manifest)
    assert (summary.committed, summary.diverged, summary.failed) == (8, 2, 0)
    bad = [r for r in runs(tmp_path) if r["outcome"] == "diverged"]
    assert all(math.isnan(r["draw"]) for r in bad)
    assert set(pq.read_table(tmp_path / "steps.parquet")["loss"].to_pylist()) == {math.inf}


def test_out_of_memory_halves_the_micro_batch_and_records_it(tmp_path):
    manifest = noop_manifest(3, target=f"{HERE}.Greedy")
    assert run(tmp_path, manifest).committed == 3
    assert {r["rows"] for r in runs(tmp_path)} == {32}


def test_a_killed_worker_is_replaced_and_no_run_is_lost(tmp_path):
    manifest = noop_manifest(30, target=f"{HERE}.Suicidal", seed=7)
    assert run(tmp_path, manifest, pool="local", num_workers=2).committed == 30
    verdict = verify(Layout(tmp_path), manifest)
    assert verdict.ok
    row = next(r for r in runs(tmp_path) if r["seed"] == 7)
    assert row["attempt"] >= 1


def test_a_hung_worker_is_found_its_stack_recorded_and_the_run_done_elsewhere(tmp_path):
    manifest = noop_manifest(6, target=f"{HERE}.Hanging")
    summary = run(tmp_path, manifest, pool="local", num_workers=2, watchdog_s=2.0)
    assert summary.committed == 6
    logs = "".join(p.read_text() for p in Layout(tmp_path).worker_logs.iterdir())
    assert "time.sleep(3600)" in logs or "in run" in logs


def test_a_trainer_that_shares_gets_batches_whole_and_failures_stay_with_their_run(tmp_path):
    manifest = noop_manifest(60, target=f"{HERE}.Sharing")
    summary = run(tmp_path, manifest)
    assert (summary.committed, summary.failed) == (59, 1)
    assert max(r["shared"] or 0 for r in runs(tmp_path)) > 1


def test_a_group_that_breaks_loses_only_the_run_it_was_at_and_only_once(tmp_path):
    manifest = noop_manifest(60, target=f"{HERE}.Sharing", breaks=40)
    summary = run(tmp_path, manifest)
    assert (summary.committed, summary.failed) == (59, 1)
    assert verify(Layout(tmp_path), manifest).missing == 1


def test_best_keeps_the_weights_of_the_best_runs_only(tmp_path):
    words = ["resources.keep_checkpoints=best", "resources.keep_best_k=2"]
    manifest = noop_manifest(9, *words, target=f"{HERE}.Keeping")
    run(tmp_path, manifest)
    kept = {(p / "weights").read_text() for p in (tmp_path / "checkpoints").iterdir()}
    assert kept == {"7", "8"}


def test_the_index_holds_one_row_per_run_and_its_attempts(tmp_path):
    manifest = noop_manifest(12, target=f"{HERE}.Moody")
    run(tmp_path, manifest)
    with sqlite3.connect(tmp_path / "state.sqlite") as db:
        assert db.execute("SELECT count(*), count(DISTINCT run_id) FROM runs").fetchone() == (12, 12)
        ended = dict(db.execute("SELECT ended, count(*) FROM attempts GROUP BY ended"))
    assert ended == {"done": 12, "failed": 4}


def test_a_second_driver_is_refused_with_the_holders_host_and_pid(tmp_path):

    layout, manifest = Layout(tmp_path), noop_manifest(1)
    permission = permit(layout, manifest, consent_of())
    with (
        Session(layout, permission),
        pytest.raises(UserError, match=f"host {socket.gethostname()}, pid {os.getpid()}"),
    ):
        Session(layout, permission)


def test_a_directory_of_a_newer_format_is_refused(tmp_path):
    run(tmp_path, noop_manifest(1))
    text = (tmp_path / "sweep.yaml").read_text()
    (tmp_path / "sweep.yaml").write_text(text.replace("format: 2", "format: 99"))
    with pytest.raises(UserError, match="format 99, newer than 2; upgrade"):
        open_manifest(tmp_path)


def test_status_json_is_left_in_its_final_state(tmp_path):
    run(tmp_path, noop_manifest(5))
    status = json.loads((tmp_path / "status.json").read_text())
    assert (status["state"], status["counts"]["done"], status["counts"]["running"]) == ("finished", 5, 0)


def test_spools_on_the_workers_own_nodes_are_copied_before_they_count(tmp_path):
    manifest = noop_manifest(50)
    cluster = Cluster(pool="local", num_workers=2, node_spools=str(tmp_path / "node"))
    layout = Layout(tmp_path / "sweep")
    permission = permit(layout, manifest, consent_of(launched=True))
    with Session(layout, permission) as session:
        session.freeze(manifest, pool="local", address=None)
        summary = session.run(manifest, cluster, session.read(manifest), quiet=True)
    assert summary.committed == 50
    assert verify(Layout(tmp_path / "sweep"), manifest).ok
    with_results = [p for p in (tmp_path / "node").rglob("*.jsonl") if b'"kind":"result"' in p.read_bytes()]
    assert with_results
    for own in with_results:
        assert own.read_bytes() == (tmp_path / "sweep" / "spool" / own.name).read_bytes()
