"""What a worker process promises, in this process."""

from __future__ import annotations

import errno

import pytest

from orchestrator.scheduling.events import Grant
from orchestrator.scheduling.retry import ERROR, INFRASTRUCTURE, MEMORY
from orchestrator.store.spool import LineReader, SpoolHealth, read_spool
from orchestrator.worker.protocol import ReportBatch, Task, WorkerSetup
from orchestrator.worker.runtime import Runtime, import_target, with_smaller_batch
from sweeps.spec import SpecError
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

    def results(self) -> list[str]:
        path = self.folder / "w.jsonl"
        return [x.header["run_id"] for x in read_spool(path, SpoolHealth()) if x.header["kind"] == "result"]


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
    assert {f.kind for f in failures} == {ERROR}
    assert len({f.fingerprint for f in failures}) == 1
    assert all("does not please me" in f.message and "Traceback" in f.details for f in failures)


def test_running_out_of_memory_is_told_as_such(tmp_path):
    bench = Bench(tmp_path, noop_manifest(1, target=f"{HERE}.Greedy"))
    bench.work(0)
    assert bench.told[0].failure.kind == MEMORY


def test_a_run_cancelled_before_its_turn_never_starts(tmp_path):
    bench = Bench(tmp_path, noop_manifest(3))
    bench.runtime.cancel((101,))
    assert bench.work(0, 1, 2) == [(0, "done"), (1, "cancelled"), (2, "done")]
    assert len(bench.results()) == 2


def test_a_trainer_that_cannot_be_imported_fails_the_run_and_not_the_worker(tmp_path):
    bench = Bench(
        tmp_path, noop_manifest(2, target="tests.orchestrator.trainers.Nobody"), warm_target="no.such"
    )
    assert dict(bench.work(0, 1)) == {0: "failed", 1: "failed"}
    assert "cannot be imported" in bench.told[0].failure.message


def test_what_a_failed_run_left_warm_is_not_used_again(tmp_path):
    bench = Bench(tmp_path, noop_manifest(4, target=f"{HERE}.Faulty", every=4))
    trainers = bench.runtime._trainers
    order = sorted(range(4), key=lambda i: bench.manifest.axis_values(i)["seed"])
    bench.work(order[1])
    first = dict(trainers)
    bench.work(order[2])
    assert trainers == first, "a good run leaves it warm"
    bench.work(order[0])
    assert not trainers


def test_a_full_disk_is_no_fault_of_the_run(tmp_path, monkeypatch):
    bench = Bench(tmp_path, noop_manifest(2))

    def full(_: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(bench.runtime._spool, "append", full)
    assert bench.work(0) == [(0, "failed")]
    assert bench.told[0].failure.kind == INFRASTRUCTURE


def test_a_sync_that_fails_counts_for_nothing_and_ends_the_worker(tmp_path, monkeypatch):
    bench = Bench(tmp_path, noop_manifest(3))

    def broken() -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(bench.runtime._spool, "sync", broken)
    assert {outcome for _, outcome in bench.work(0, 1)} == {"failed"}
    assert all(r.failure.kind == INFRASTRUCTURE and not r.spool for r in bench.told)
    assert bench.work(2) == [], "nobody knows what is on this disk: no more work"


def test_the_pulse_names_no_lease_when_idle_and_its_counter_grows_with_work(tmp_path):
    bench = Bench(tmp_path, noop_manifest(3))
    before = bench.runtime.pulse()
    bench.work(0, 1)
    after = bench.runtime.pulse()
    assert (before.token, after.token) == (0, 0)
    assert after.progress > before.progress


def test_less_memory_means_half_the_micro_batch_and_the_same_run():
    manifest = noop_manifest(1)
    spec = manifest.spec(0)
    rows = spec.engine.micro_batch or spec.sampling.num_rollouts
    smaller = with_smaller_batch(spec, 1)
    assert smaller.engine.micro_batch == rows // 2
    assert smaller.run_id == spec.run_id
    assert with_smaller_batch(spec, 0) is spec
    assert with_smaller_batch(spec, 30).engine.micro_batch == 1


@pytest.mark.parametrize("target", ["nothing", "no.such.Class", "trainers.noop.Nobody", ""])
def test_a_target_that_names_nothing_is_refused_with_the_fix(target):
    with pytest.raises(SpecError, match=r"give module\.Class"):
        import_target(target)
