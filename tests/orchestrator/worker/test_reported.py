"""What becomes of the rows that a trainer reports, in this process."""

from __future__ import annotations

import json
import math
import threading

from orchestrator.inspect.verify import verify
from orchestrator.store.layout import Layout
from orchestrator.store.outcomes import Grant
from orchestrator.store.reports import newest_rows, reported_rows
from orchestrator.store.spool import LineReader
from orchestrator.worker.protocol import Task, WorkerSetup
from orchestrator.worker.reported import WorkerReports
from orchestrator.worker.runtime import Runtime
from tests.benchmarks.reporting import report_us
from tests.orchestrator.sweeping import noop_manifest, run
from trainers.noop import Noop
from trainers.protocol import Cancelled, RunResult
from trainers.reporting import report, reporting_to

HERE = "tests.orchestrator.worker.test_reported"


class Telling(Noop):
    """Reports through its context and through ``emsweep.report``, as one run."""

    def run(self, spec, context):
        context.report(2, loss=0.5, note="é")
        report(0, loss=math.nan)
        report(2, loss=0.25, acc=1)
        if spec.seed == 1:
            raise ArithmeticError("one does not please me")
        own = [{"step": 7, "loss": 1.0}] if spec.seed == 2 else []
        return RunResult(outcome="done", metrics={"loss": 0.25}, steps=own)


class Misreporting(Noop):
    """Reports what no table can hold."""

    def run(self, spec, context):
        report(0, loss=[1])
        return super().run(spec, context)


class Waiting(Noop):
    """Reports until it is told to stop, and says what it heard."""

    def run(self, spec, context):
        heard = [context.report(0)]
        context.cancelled()
        STOP[0]()
        heard.append(report(1))
        if heard[-1].stop:
            raise Cancelled(heard[-1].reason)
        return super().run(spec, context)


STOP = [lambda: None]


class Sharing(Noop):
    """Reports for each run of a batch."""

    def run_group(self, specs, contexts):
        for context, spec in zip(contexts, specs, strict=True):
            context.report(0, seed=spec.seed)
        assert report(9) == contexts[0].decision()  # about no run in particular: it is kept nowhere
        for position, (context, spec) in enumerate(zip(contexts, specs, strict=True)):
            context.report(1, seed=spec.seed)
            yield position, super().run(spec, context)


class Bench:
    """A runtime in a folder, and what it told."""

    def __init__(self, folder, manifest, **setup):
        self.layout, self.manifest, self.told, self.shipped = Layout(folder), manifest, [], b""
        places = {"spool": self.layout.spool("e1-w"), "reports": self.layout.report_file("e1-w")}
        setup = {**places, "checkpoints": folder, "log": folder / "w.log", **setup}
        self.runtime = Runtime(WorkerSetup(name="e1-w", **setup), self._hear)
        self.runtime.warm()

    def _hear(self, batch):
        self.told += batch.reports
        self.shipped += batch.reported

    def work(self, *indices):
        items = [Task(Grant(i, 0, 100 + i), self.manifest.run_ids[i], self.manifest.spec(i)) for i in indices]
        self.runtime.add(items)
        while self.runtime.step(block=False):
            pass
        return [report.outcome for report in self.told]

    def steps(self, index):
        lines = LineReader(self.layout.spools)
        [told] = [report for report in self.told if report.run == index]
        line = lines.read(told.spool, told.offset, told.length)
        lines.close()
        return RunResult.from_json(line.result()).steps


def by_seed(manifest):
    return sorted(range(len(manifest)), key=lambda i: manifest.axis_values(i)["seed"])


def test_reported_rows_are_the_steps_of_a_result_without_its_own_and_stay_with_a_failed_attempt(tmp_path):
    manifest = noop_manifest(3, target=f"{HERE}.Telling")
    plain, failing, with_own = by_seed(manifest)
    bench = Bench(tmp_path, manifest)
    assert bench.work(plain, failing, with_own) == ["done", "failed", "done"]
    first, second = bench.steps(plain)
    assert (first["step"], list(first), math.isnan(first["loss"])) == (0, ["step", "loss"], True)
    assert second == {"step": 2, "loss": 0.25, "note": "é", "acc": 1}
    assert bench.steps(with_own) == [{"step": 7, "loss": 1.0}]
    for index in (plain, failing, with_own):
        rows = list(reported_rows(bench.layout, manifest.run_ids[index]))
        assert [(r.step, r.attempt, r.worker, r.token) for r in rows] == [
            (step, 0, "e1-w", 100 + index) for step in (2, 0, 2)
        ]
        assert rows[0].metrics == {"loss": 0.5, "note": "é"}
        assert math.isnan(rows[1].metrics["loss"])


def test_the_newest_row_of_each_run_holds_all_that_was_told_of_its_step(tmp_path):
    manifest = noop_manifest(2, target=f"{HERE}.Telling")
    bench = Bench(tmp_path, manifest)
    bench.work(0, 1)
    rows = newest_rows(bench.layout, ["e1-w"], {100, 101})
    assert {row.run_id for row in rows} == set(manifest.run_ids)
    assert all((row.step, dict(row.metrics)) == (2, {"loss": 0.25, "acc": 1}) for row in rows)
    assert newest_rows(bench.layout, ["e1-x"], {100}) == []
    assert newest_rows(bench.layout, ["e1-w"], {7}) == []


def test_a_bad_value_is_the_runs_error_and_names_it(tmp_path):
    bench = Bench(tmp_path, noop_manifest(1, target=f"{HERE}.Misreporting"))
    assert bench.work(0) == ["failed"]
    assert "reported metric 'loss': a list cannot be a column" in bench.told[0].failure.message


def test_a_run_that_is_called_off_hears_so_at_its_next_report(tmp_path):
    bench = Bench(tmp_path, noop_manifest(1, target=f"{HERE}.Waiting"))
    STOP[0] = lambda: bench.runtime.cancel((100,))
    assert bench.work(0) == ["cancelled"]


class Obedient(Noop):
    """Ends early, with what it has, once it is told to."""

    def run(self, spec, context):
        STOP[0]()
        report(0, loss=1.0)
        return {"loss": 1.0}


def test_what_is_returned_after_being_told_to_stop_is_no_result(tmp_path):
    bench = Bench(tmp_path, noop_manifest(2, target=f"{HERE}.Obedient"))
    STOP[0] = lambda: bench.runtime.cancel((100,))
    assert bench.work(0, 1) == ["cancelled", "done"]
    assert len(list(reported_rows(bench.layout, bench.manifest.run_ids[0]))) == 1


def test_runs_that_share_work_report_each_for_itself(tmp_path):
    manifest = noop_manifest(3, target=f"{HERE}.Sharing")
    bench = Bench(tmp_path, manifest, sharing=True)
    assert bench.work(0, 1, 2) == ["done"] * 3
    for index, run_id in enumerate(manifest.run_ids):
        seed = manifest.spec(index).seed
        assert [(r.step, r.metrics) for r in reported_rows(bench.layout, run_id)] == [
            (0, {"seed": seed}),
            (1, {"seed": seed}),
        ]


def test_bytes_on_a_nodes_own_disk_go_along_with_the_batches(tmp_path):
    places = {"spool": "spool/e1-w.jsonl", "reports": "reports/e1-w.jsonl", "node_folder": str(tmp_path)}
    bench = Bench(tmp_path, noop_manifest(2, target=f"{HERE}.Telling"), **places)
    bench.work(0, 1)
    assert bench.shipped == bench.layout.report_file("e1-w").read_bytes()
    assert bench.shipped.count(b'"kind":"step"') == 6


def test_rows_reach_the_driver_of_another_node_while_the_run_goes_on(tmp_path):
    places = {"spool": "spool/e1-w.jsonl", "reports": "reports/e1-w.jsonl", "node_folder": str(tmp_path)}
    bench = Bench(tmp_path, noop_manifest(1, target=f"{HERE}.Waiting"), **places)
    seen = []
    STOP[0] = lambda: (bench.runtime.flush(), seen.append(bench.shipped))
    assert bench.work(0) == ["done"]
    assert seen[0].count(b'"step":0') == 1


def test_a_disk_that_takes_nothing_costs_the_rows_of_that_time_and_not_the_run(tmp_path, capsys):
    bench = Bench(tmp_path, noop_manifest(1, target=f"{HERE}.Waiting"))
    in_the_way = bench.layout.report_file("e1-w")
    in_the_way.mkdir(parents=True)
    STOP[0] = in_the_way.rmdir
    assert bench.work(0) == ["done"]
    assert [row["step"] for row in bench.steps(0)] == [0, 1]
    assert [row.step for row in reported_rows(bench.layout)] == [1]
    assert capsys.readouterr().err.count("reports are not kept") == 1


def test_a_row_is_one_checksummed_line_and_a_damaged_one_is_passed_over(tmp_path):
    manifest = noop_manifest(1, target=f"{HERE}.Telling")
    bench = Bench(tmp_path, manifest)
    bench.work(0)
    path = bench.layout.report_file("e1-w")
    first, *others = path.read_bytes().splitlines(keepends=True)
    assert json.loads(first)["metrics"] == {"loss": 0.5, "note": "é"}
    path.write_bytes(first.replace(b"0.5", b"0.6") + b"".join(others) + first[:40])
    assert [row.step for row in reported_rows(bench.layout)] == [0, 2]


def test_verify_names_damaged_rows_and_is_ok_without_them(tmp_path):
    manifest = noop_manifest(1, target=f"{HERE}.Telling")
    run(tmp_path, manifest)
    layout = Layout(tmp_path)
    assert not verify(layout, manifest).findings
    [path] = layout.reports.iterdir()
    path.write_bytes(path.read_bytes().replace(b"0.25", b"0.75", 1))
    assert verify(layout, manifest).ok
    [finding] = verify(layout, manifest).findings
    assert finding.startswith(f"1 reported rows are damaged and passed over, the first in {path.name} at")


def test_a_report_costs_at_most_50_microseconds_of_processor_time(tmp_path):
    assert min(report_us(tmp_path / str(i)) for i in range(3)) <= 50


def test_rows_of_several_threads_are_all_kept(tmp_path):
    manifest = noop_manifest(1)
    setup = WorkerSetup(
        name="w",
        spool=None,
        reports=tmp_path / "reports" / "e1-w.jsonl",
        checkpoints=tmp_path,
        log=tmp_path / "l",
    )
    reports = WorkerReports(setup, set(), lambda: None)
    attempt = reports.begun(Task(Grant(0, 0, 1), manifest.run_ids[0], manifest.spec(0)))

    def tell(number):
        for step in range(500):
            report(step, **{f"m{number}": step})

    with reporting_to(attempt.report):
        threads = [threading.Thread(target=tell, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    reports.close()
    assert attempt.steps() == [{"step": k} | {f"m{n}": k for n in range(4)} for k in range(500)]
    assert len(list(reported_rows(Layout(tmp_path)))) == 2000
