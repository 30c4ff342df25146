"""What a worker process promises, in this process."""

from __future__ import annotations

import errno
import json

from orchestrator.store.outcomes import ERROR, INFRASTRUCTURE, OOM, Grant
from orchestrator.store.spool import Line, LineReader, SpoolHealth, read_spool
from orchestrator.worker.protocol import ReportBatch, Task, WorkerSetup
from orchestrator.worker.runtime import Runtime
from sweeps.spec import TrainerSpec
from tests.orchestrator.sweeping import noop_manifest
from tests.orchestrator.trainers import HERE


class Bench:
    """A runtime, its spool, and what it told; every report is checked against the spool as it is told."""

    def __init__(self, folder, manifest, **setup):
        self.folder, self.manifest = folder, manifest
        self.told = []
        path = folder / "w.jsonl"
        self.runtime = Runtime(
            WorkerSetup(name="w", spool=path, checkpoints=folder, log=folder / "w.log", **setup), self._hear
        )
        self.runtime.warm()

    def _hear(self, batch: ReportBatch) -> None:
        lines = LineReader(self.folder)
        for report in batch.reports:
            if report.outcome in ("done", "diverged"):
                line = lines.read(report.spool, report.offset, report.length)
                assert line is not None, "a result was reported before it could be read"
                assert line.header["run_id"] == self.manifest.run_ids[report.run]
        lines.close()
        self.told += batch.reports

    def work(self, *indices: int) -> list[tuple[int, str]]:
        """Run a batch to its end and return what was told of it."""
        before = len(self.told)
        items = [Task(Grant(i, 0, 100 + i), self.manifest.run_ids[i], self.manifest.spec(i)) for i in indices]
        self.runtime.add(items)
        while self.runtime.step(block=False):
            pass
        return [(report.run, report.outcome) for report in self.told[before:]]

    def lines(self) -> list[Line]:
        path = self.folder / "w.jsonl"
        return [x for x in read_spool(path, SpoolHealth()) if x.header["kind"] == "result"]

    def results(self) -> list[str]:
        return [x.header["run_id"] for x in self.lines()]


def test_each_run_of_a_batch_is_spooled_once_and_told_once(tmp_path):
    bench = Bench(tmp_path, noop_manifest(5))
    assert bench.work(3, 1, 4) == [(3, "done"), (1, "done"), (4, "done")]
    assert bench.results() == [bench.manifest.run_ids[i] for i in (3, 1, 4)]


def test_an_exception_fails_its_run_alone_with_class_fingerprint_and_traceback(tmp_path):
    bench = Bench(tmp_path, noop_manifest(8, target=f"{HERE}.Faulty", every=4))
    seeds = [bench.manifest.axis_values(i)["seed"] for i in range(8)]
    outcomes = dict(bench.work(*range(8)))
    assert {seeds[i] for i, outcome in outcomes.items() if outcome == "failed"} == {0, 4}
    failures = [r.failure for r in bench.told if r.failure]
    assert {f.failure_class for f in failures} == {ERROR}
    assert len({f.fingerprint for f in failures}) == 1
    assert all("does not please me" in f.message and "Traceback" in f.details for f in failures)


def by_seed(manifest) -> list[int]:
    """Row of each seed."""
    return sorted(range(len(manifest)), key=lambda i: manifest.axis_values(i)["seed"])


def test_a_trainer_of_init_and_run_alone_works_warm_and_needs_no_close(tmp_path):
    bench = Bench(tmp_path, noop_manifest(3, target=f"{HERE}.Bare"), sharing=True)
    assert dict(bench.work(0, 1, 2)) == dict.fromkeys(range(3), "done")
    bench.runtime.close()
    results = [json.loads(x.body)["metrics"] for x in bench.lines()]
    assert [r["nth"] for r in results] == [1, 2, 3]


def test_a_trainer_that_closes_is_closed_after_a_failure_and_at_the_end_once_each(tmp_path):
    bench = Bench(tmp_path, noop_manifest(4, target=f"{HERE}.Closing", folder=str(tmp_path)))
    bench.work(*by_seed(bench.manifest))
    bench.runtime.close()
    assert (tmp_path / "closed").read_text() == "after 1\nafter 2\n", "seed 0, failure; seeds 2 and 3, end"


def test_a_group_trainer_gets_the_batch_whole_and_goes_on_after_a_run_that_failed_in_it(tmp_path):
    bench = Bench(tmp_path, noop_manifest(6, target=f"{HERE}.Sharing"), sharing=True)
    rows = by_seed(bench.manifest)
    bench.runtime.cancel((100 + rows[1],))
    outcomes = bench.work(*rows)
    expected = {rows[1]: "cancelled", rows[3]: "failed"}
    assert dict(outcomes) == dict.fromkeys(rows, "done") | expected
    results = [json.loads(x.body)["metrics"]["shared"] for x in bench.lines()]
    assert results == [5] * 4, "the run that was called off before is not in the batch"
    again = bench.work(rows[0], rows[2])
    assert dict(again) == {rows[0]: "done", rows[2]: "done"}, "what was closed is not used again"


def test_a_group_trainer_runs_run_after_run_where_sharing_is_off(tmp_path):
    bench = Bench(tmp_path, noop_manifest(6, target=f"{HERE}.Sharing"))
    assert dict(bench.work(*range(6))) == dict.fromkeys(range(6), "done")
    assert not any("shared" in json.loads(x.body)["metrics"] for x in bench.lines())


def test_what_a_group_raises_is_charged_to_its_first_open_run_and_the_others_go_back(tmp_path):
    manifest = noop_manifest(6, target=f"{HERE}.Sharing", breaks=2)
    bench = Bench(tmp_path, manifest, sharing=True)
    rows = by_seed(manifest)
    outcomes = dict(bench.work(*rows))
    assert [outcomes[row] for row in rows] == ["failed", "cancelled", "cancelled", "failed", "done", "done"]
    charged = next(r for r in bench.told if r.run == rows[0])
    assert "the group broke" in charged.failure.message


def test_a_group_that_forgets_a_run_fails_it_with_what_it_owes(tmp_path):
    manifest = noop_manifest(3, target=f"{HERE}.Sharing", forgotten=1)
    bench = Bench(tmp_path, manifest, sharing=True)
    rows = by_seed(manifest)
    assert dict(bench.work(*rows)) == {rows[0]: "done", rows[1]: "failed", rows[2]: "done"}
    assert "without an outcome for positions [1]" in bench.told[-1].failure.message


def test_a_result_that_is_none_or_no_plain_json_fails_its_run_and_not_the_worker(tmp_path):
    manifest = noop_manifest(3, target=f"{HERE}.Wordless")
    bench = Bench(tmp_path, manifest)
    rows = by_seed(manifest)
    assert [outcome for _, outcome in bench.work(*rows)] == ["failed", "failed", "done"]
    nothing, unstorable = (r.failure.message for r in bench.told[:2])
    assert nothing.startswith("TypeError: the trainer returned a NoneType; return a dict of metrics")
    assert "metric 'draw': a set cannot be a column" in unstorable


def test_an_outcome_that_is_none_fails_its_run_and_says_so(tmp_path):
    manifest = noop_manifest(3, target=f"{HERE}.Misnaming")
    bench = Bench(tmp_path, manifest)
    rows = by_seed(manifest)
    assert [outcome for _, outcome in bench.work(*rows)] == ["failed", "done", "done"]
    assert "outcome 'ok': must be 'done' or 'diverged'" in bench.told[0].failure.message


def test_a_run_of_a_group_that_is_called_off_while_another_is_told_of_is_told_once(tmp_path):
    manifest = noop_manifest(3, target=f"{HERE}.Sharing")
    bench = Bench(tmp_path, manifest)
    tasks = [Task(Grant(i, 0, 100 + i), manifest.run_ids[i], manifest.spec(i)) for i in range(3)]
    bench.runtime.cancel((100,))
    reports = bench.runtime._run_all(tasks)
    assert next(reports).outcome == "cancelled"
    bench.runtime.cancel((101,))
    assert sorted(report.run for report in reports) == [1, 2]


def test_a_copy_that_a_trainer_forks_is_no_worker_and_what_it_returns_no_result(tmp_path):
    manifest = noop_manifest(3, target=f"{HERE}.Forking")
    bench, rows = Bench(tmp_path, manifest), by_seed(manifest)
    assert bench.work(*rows) == [(row, "done") for row in rows]
    assert [line.result()["metrics"]["status"] for line in bench.lines()] == [0, 3, 0]


def test_running_out_of_memory_is_told_as_such(tmp_path):
    bench = Bench(tmp_path, noop_manifest(1, target=f"{HERE}.Greedy"))
    bench.work(0)
    assert bench.told[0].failure.failure_class == OOM


def test_a_run_cancelled_before_its_turn_never_starts(tmp_path):
    bench = Bench(tmp_path, noop_manifest(3))
    bench.runtime.cancel((101,))
    assert bench.work(0, 1, 2) == [(0, "done"), (1, "cancelled"), (2, "done")]
    assert len(bench.results()) == 2


def test_a_trainer_that_cannot_be_imported_fails_the_run_and_not_the_worker(tmp_path):
    bench = Bench(
        tmp_path,
        noop_manifest(2, target="tests.orchestrator.trainers.Nobody"),
        warm=TrainerSpec(target="no.such.Trainer"),
    )
    assert dict(bench.work(0, 1)) == {0: "failed", 1: "failed"}
    assert "cannot be imported" in bench.told[0].failure.message


def test_a_full_disk_is_no_fault_of_the_run(tmp_path, monkeypatch):
    bench = Bench(tmp_path, noop_manifest(2))

    def full(_: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(bench.runtime._spool, "append", full)
    assert bench.work(0) == [(0, "failed")]
    assert bench.told[0].failure.failure_class == INFRASTRUCTURE


def test_a_sync_that_fails_counts_for_nothing_and_ends_the_worker(tmp_path, monkeypatch):
    bench = Bench(tmp_path, noop_manifest(3))

    def broken() -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(bench.runtime._spool, "sync", broken)
    assert {outcome for _, outcome in bench.work(0, 1)} == {"failed"}
    assert all(r.failure.failure_class == INFRASTRUCTURE and not r.spool for r in bench.told)
    assert bench.work(2) == [], "nobody knows what is on this disk: no more work"


def test_the_pulse_names_no_lease_when_idle_and_its_counter_grows_with_work(tmp_path):
    bench = Bench(tmp_path, noop_manifest(3))
    before = bench.runtime.pulse()
    bench.work(0, 1)
    after = bench.runtime.pulse()
    assert (before.token, after.token) == (0, 0)
    assert after.progress > before.progress
