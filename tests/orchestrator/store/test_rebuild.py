"""What is derived may be deleted: after a resume every answer is what it was."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import time

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.driver.commit_log import CommitLog
from orchestrator.driver.session import Session
from orchestrator.inspect.status import run_story, sweep_status
from orchestrator.inspect.verify import verify
from orchestrator.planning.cluster import Cluster
from orchestrator.scheduling.events import Accept, NoteEnds, NoteFailure, Settle
from orchestrator.store.compaction import missing_tables
from orchestrator.store.failure_groups import failure_groups
from orchestrator.store.index_reader import read_index
from orchestrator.store.journal import first_token
from orchestrator.store.layout import TABLES, Layout
from orchestrator.store.outcomes import AttemptReport, Failure, Grant
from orchestrator.store.run_index import PENDING
from orchestrator.store.spool import SpoolWriter, encode_line
from orchestrator.store.sqlite_path import state_path
from orchestrator.trust.consent import consent_of
from orchestrator.trust.gate import permit
from orchestrator.worker.protocol import Task
from tests.orchestrator.sweeping import noop_manifest, run
from tests.orchestrator.trainers import HERE
from trainers.protocol import Evaluation, RunResult

NUM = 6
MANIFEST = noop_manifest(NUM)
ENDS = ("done", "diverge", "fail", "run out of memory", "quarantine", "cancel", "lose", "orphan", "reopen")
CHANGES = st.tuples(
    st.sampled_from([*ENDS, "late", "void", "kill", "kill at once", "restart"]), st.integers(0, NUM - 1)
)


class Driver:
    """A driver's record of decisions that nobody took: real files, no worker."""

    def __init__(self, folder) -> None:
        self.layout = Layout(folder)
        with Session(self.layout) as session:
            session.freeze(MANIFEST, pool="inline")
        self.begin()

    def begin(self, *reopened: int) -> None:
        reading = read_index(self.layout, MANIFEST.run_ids)
        for index in reopened:
            reading.book.reopen(index)
        self.log = CommitLog(layout=self.layout, manifest=MANIFEST, reading=reading, reopened=reopened)
        self.worker, self.token = f"e{self.log.epoch}-w1", first_token(self.log.epoch)
        self.spool = SpoolWriter(self.layout.spool(self.worker))
        self.attempts = list(reading.book.attempts)

    def lease(self, index: int) -> Grant:
        grant = Grant(index, self.attempts[index], self.token)
        self.attempts[index] += 1
        self.token += 1
        self.log.granted(self.worker, [Task(grant, MANIFEST.run_ids[index], MANIFEST.spec(index))])
        return grant

    def store(self, grant: Grant, outcome: str) -> AttemptReport:
        run_id, at = MANIFEST.run_ids[grant.run], time.time()
        evaluation = Evaluation(
            benchmark="b", step=0, mode="greedy", temperature=0.0, num_samples=1,
            correct=[1], strict=[0], boxed=[0], truncated=[0], tokens=[grant.attempt],
        )  # fmt: skip
        result = RunResult(
            outcome=outcome, metrics={"draw": grant.token / 7}, steps=[{"step": 0, "loss": 1.0}],
            evaluations=[evaluation],
        )  # fmt: skip
        header = {
            "kind": "result", "run_id": run_id, "attempt": grant.attempt, "token": grant.token,
            "outcome": outcome, "worker": self.worker, "host": "h", "finished_at": at,
        }  # fmt: skip
        line = encode_line(header, result.to_json())
        place = (self.spool.path.name, self.spool.append(line), len(line))
        return AttemptReport(*grant[:3], outcome, 0.25, at, *place)

    def fail(self, index: int, failure_class: str, outcome: str = "") -> None:
        grant = self.lease(index)
        failure = Failure(failure_class, f"{index % 2:012}", f"broke at {grant.token}", "stack")
        self.log.note_failure(NoteFailure(**_named(grant), worker=self.worker, failure=failure))
        if outcome:
            self.log.settle(Settle(run=index, outcome=outcome))

    def do(self, what: str, index: int) -> None:
        pending = self.log.book.outcome[index] == PENDING
        match what:
            case "done" | "diverge" if pending:
                report = self.store(self.lease(index), what.replace("diverge", "diverged"))
                self.log.accept(Accept(worker=self.worker, reports=(report,)))
            case "late" if not pending:
                report = self.store(self.lease(index), "done")
                self.log.note_ends(NoteEnds(worker=self.worker, reports=(report,)))
            case "orphan" if pending:
                self.store(self.lease(index), "done")
                self.restart()
            case "fail" if pending:
                self.fail(index, "error")
            case "run out of memory" if pending:
                self.fail(index, "oom", "failed")
            case "quarantine" if pending:
                self.fail(index, "error", "quarantined")
            case "cancel" if pending:
                report = AttemptReport(*self.lease(index)[:3], "cancelled", 0.0, time.time())
                self.log.settle(Settle(run=index, outcome="cancelled"))
                self.log.note_ends(NoteEnds(worker=self.worker, reports=(report,)))
            case "lose" if pending:
                self.lease(index)
            case "reopen" if not pending and not self.log.book.committed(index):
                self.restart(index)
            case "void" if self.log.book.committed(index):
                book = self.log.book
                offset, _ = book.location(index)
                with (self.layout.spools / book.spools[book.spool[index]]).open("r+b") as file:
                    file.seek(offset + 20)
                    file.write(b"?")
                self.restart()
            case "kill":
                self.restart()
            case "kill at once":
                self.begin()
            case "restart":
                self.end()
                self.begin()

    def end(self) -> None:
        self.log.flush()
        self.log.finish("")

    def restart(self, *reopened: int) -> None:
        """A driver that was killed after its last flush, and the next one."""
        self.log.flush()
        self.begin(*reopened)


def _named(grant: Grant) -> dict[str, int]:
    return {"run": grant.run, "attempt": grant.attempt, "token": grant.token}


def resume(folder) -> None:
    """What ``resume`` does where nothing is left to run."""
    layout = Layout(folder)
    with Session(layout, permit(layout, MANIFEST, consent_of())) as session:
        session.run(MANIFEST, Cluster(pool="inline"), session.read(MANIFEST), quiet=True, only=())


def answers(folder, manifest) -> dict:
    """Everything that can be asked of a sweep at rest."""
    layout = Layout(folder)
    rows = {t: pq.read_table(layout.table(t)).to_pylist() for t in TABLES if layout.table(t).exists()}
    with contextlib.closing(sqlite3.connect(state_path(layout))) as db:
        index = {t: sorted(db.execute(f"SELECT * FROM {t}"), key=repr) for t in ("runs", "attempts")}
    return {
        "status": sweep_status(folder),
        "stories": [run_story(folder, run_id) for run_id in manifest.run_ids],
        "verify": verify(layout, manifest),
        "tables": {t: sorted(map(repr, found)) for t, found in rows.items()},
        "groups": failure_groups(manifest, read_index(layout, manifest.run_ids).book),
        "index": index,
    }


def delete_what_is_derived(folder) -> None:
    for path in [*folder.glob("state.sqlite*"), *folder.glob("*.parquet"), folder / "status.json"]:
        if path.name != "manifest.parquet":
            path.unlink(missing_ok=True)
    shutil.rmtree(folder / "parts")


@settings(max_examples=20, deadline=None)
@given(history=st.lists(CHANGES, max_size=14))
def test_every_answer_is_the_same_after_all_that_is_derived_was_deleted(tmp_path_factory, history):
    folder = tmp_path_factory.mktemp("history")
    driver = Driver(folder)
    for change in history:
        driver.do(*change)
    driver.end()
    before = answers(folder, MANIFEST)
    delete_what_is_derived(folder)
    resume(folder)
    assert answers(folder, MANIFEST) == before


def test_attempts_of_a_driver_that_was_killed_at_once_keep_their_numbers(tmp_path):
    driver = Driver(tmp_path)
    driver.lease(2)
    driver.begin()
    assert driver.attempts[2] == 1, "what the first one reported is under number 0"


def test_a_real_sweep_with_retries_is_rebuilt_attempt_by_attempt(tmp_path):
    manifest = noop_manifest(9, target=f"{HERE}.Moody")
    run(tmp_path, manifest)
    before = answers(tmp_path, manifest)
    assert [a["ended"] for a in before["stories"][0]["attempts"]] == ["failed", "done"]
    assert before["stories"][0]["error"] is None, "it has a result: its first try's error is not its own"
    delete_what_is_derived(tmp_path)
    stories = [run_story(tmp_path, run_id) for run_id in manifest.run_ids]
    assert stories == before["stories"], "told from the journals, before anything is rebuilt"
    run(tmp_path, manifest)
    assert answers(tmp_path, manifest) == before


def test_results_of_mixed_kinds_end_no_driver_and_are_tabled_again(tmp_path):
    manifest = noop_manifest(12, target=f"{HERE}.Mixing")
    assert run(tmp_path, manifest).committed == 12
    before = answers(tmp_path, manifest)
    assert before["verify"].ok
    runs = pq.read_table(Layout(tmp_path).table("runs"))
    assert sorted(filter(None, runs["mixture"].to_pylist())) == sorted(
        ["1.5", "true", "high", str(2**70)] * 2
    )
    assert list(filter(None, runs["mixture.b"].to_pylist())) == [1, 1]
    delete_what_is_derived(tmp_path)
    run(tmp_path, manifest)
    assert answers(tmp_path, manifest) == before


@pytest.mark.parametrize("table", ["runs", "steps", "items"])
def test_a_deleted_table_is_named_by_verify_and_written_again_by_resume(tmp_path, table):
    driver = Driver(tmp_path)
    for index in range(NUM):
        driver.do("done", index)
    driver.end()
    before = answers(tmp_path, MANIFEST)
    assert before["verify"].ok
    Layout(tmp_path).table(table).unlink()
    verdict = verify(Layout(tmp_path), MANIFEST)
    assert (verdict.ok, verdict.tables_missing) == (False, (table,))
    resume(tmp_path)
    assert answers(tmp_path, MANIFEST) == before


def test_a_table_that_never_had_rows_is_not_missed(tmp_path):
    driver = Driver(tmp_path)
    driver.end()
    book = read_index(driver.layout, MANIFEST.run_ids).book
    assert missing_tables(driver.layout, book) == []
    driver.layout.table("runs").unlink()
    assert missing_tables(driver.layout, book) == ["runs"]
