"""What people do to a sweep while it runs, and after: the driver in this thread, the person in another."""

from __future__ import annotations

import importlib.metadata
import json
import os
import signal
import threading
import time
from collections.abc import Callable

import pyarrow.parquet as pq
import pytest

from orchestrator.cli import main
from orchestrator.driver.session import Session
from orchestrator.inspect.verify import verify
from orchestrator.store.layout import Layout
from orchestrator.store.status import read_status
from orchestrator.trust.consent import consent_of
from orchestrator.trust.gate import permit
from tests.orchestrator.sweeping import noop_manifest, run
from tests.orchestrator.trainers import HERE


class Person(threading.Thread):
    """Waits until something is so, then does something; its error is the test's."""

    def __init__(self, when: Callable[[], object], then: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._when, self._then = when, then
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            until_s = time.monotonic() + 60
            while not self._when():
                assert time.monotonic() < until_s, "what the person waits for does not come"
                time.sleep(0.02)
            self._then()
        except BaseException as error:
            self._error = error

    def __enter__(self) -> Person:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.join(60)
        assert self._error is None, self._error


def emsweep(*words: object) -> int:
    return main([*map(str, words), "--json"])


def rows(folder):
    return pq.read_table(folder / "runs.parquet").to_pylist()


def outcomes(folder):
    return {row["seed"]: row["outcome"] for row in rows(folder)}


def num_done(folder) -> int:
    """Results spooled so far."""
    spools = [p for p in (folder / "spool").glob("*.jsonl") if not p.name.startswith("driver-")]
    return sum(p.read_bytes().count(b'"kind":"result"') for p in spools)


def is_running(folder, num: int = 1) -> bool:
    return ((read_status(Layout(folder)) or {}).get("counts") or {}).get("running", 0) >= num


@pytest.mark.parametrize("pool", ["inline", "local"])
def test_peak_memory_is_that_of_the_largest_process_in_every_pool(tmp_path, pool, capsys):
    target = f"{HERE}.Heavy"
    words = ("sweep=noop", "sweep.n=2", f"trainer.target={target}", "--allow-target", target)
    assert emsweep("launch", *words, "--dir", tmp_path / "s", "--pool", pool, "--yes") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["peak_mib"] > 300
    assert told["peak_mib"] >= told["driver_mib"] > 0


def test_cancel_reaches_runs_in_flight_and_those_that_wait(tmp_path):
    manifest = noop_manifest(30, target=f"{HERE}.Endless", below=2)
    asked = lambda: emsweep("cancel", tmp_path, "seed=0,1,7")  # noqa: E731
    with Person(lambda: is_running(tmp_path, 2), asked):
        summary = run(tmp_path, manifest, pool="local", num_workers=2, unit_s=0.0)
    assert (summary.committed, summary.cancelled, summary.interrupted) == (27, 3, False)
    assert {seed for seed, outcome in outcomes(tmp_path).items() if outcome == "cancelled"} == {0, 1, 7}
    assert verify(Layout(tmp_path), manifest).ok


def test_cancel_without_a_filter_ends_a_live_sweep_and_keeps_its_results(tmp_path):
    manifest = noop_manifest(400, duration_s=0.05)
    with Person(lambda: num_done(tmp_path) >= 4, lambda: emsweep("cancel", tmp_path)):
        summary = run(tmp_path, manifest, pool="local", num_workers=2)
    assert summary.committed >= 4
    assert summary.committed + summary.cancelled == 400
    assert run(tmp_path, manifest).new == 0, "what was cancelled stays so"


def test_without_a_driver_cancel_holds_and_rerun_takes_it_back(tmp_path, capsys):
    run(tmp_path, noop_manifest(4))
    grown = noop_manifest(10)
    permission = permit(Layout(tmp_path), grown, consent_of(launched=True))
    with Session(Layout(tmp_path), permission) as session:
        assert session.freeze(grown, pool="inline").new == 6
    assert emsweep("cancel", tmp_path, "seed>=6") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["cancelled"] == 4
    assert emsweep("resume", tmp_path, "--pool", "inline") == 0
    assert outcomes(tmp_path) == {s: "done" if s < 6 else "cancelled" for s in range(10)}
    assert emsweep("rerun", tmp_path, "seed=9", "--pool", "inline") == 0
    assert outcomes(tmp_path)[9] == "done"
    assert emsweep("rerun", tmp_path, "--incomplete", "--pool", "inline") == 0
    assert set(outcomes(tmp_path).values()) == {"done"}
    assert verify(Layout(tmp_path), grown).superseded == 0, "no committed result was computed again"


def test_rerun_failed_gives_fresh_budgets_and_leaves_results_alone(tmp_path):
    cure = tmp_path / "cure"
    manifest = noop_manifest(12, target=f"{HERE}.Curable", every=4, cure=cure)
    assert run(tmp_path, manifest).failed == 3
    before = {row["run_id"]: row["finished_at"] for row in rows(tmp_path) if row["outcome"] == "done"}
    assert emsweep("rerun", tmp_path, "--failed", "--pool", "inline") == 1, "still broken"
    cure.touch()
    assert emsweep("rerun", tmp_path, "--failed", "seed=4", "--pool", "inline") == 1, "two are left"
    assert [s for s, o in outcomes(tmp_path).items() if o == "quarantined"] == [0, 8]
    assert emsweep("rerun", tmp_path, "--failed", "--pool", "inline") == 0
    after = {row["run_id"]: row for row in rows(tmp_path)}
    assert all(row["outcome"] == "done" and row["error"] is None for row in after.values())
    assert {run_id: after[run_id]["finished_at"] for run_id in before} == before


def test_until_stops_before_the_limit_with_nothing_lost_and_resume_finishes(tmp_path):
    manifest = noop_manifest(40, duration_s=0.2)
    limit = time.time() + 4
    summary = run(tmp_path, manifest, pool="local", num_workers=2, until=limit)
    assert time.time() < limit + 0.5
    assert summary.interrupted
    assert 0 < summary.committed < 40
    assert "--until" in summary.reason
    assert run(tmp_path, manifest, pool="local", num_workers=2).committed == 40
    assert {row["attempt"] for row in rows(tmp_path) if row["attempt"]} <= {1}


@pytest.mark.parametrize("text", ["yesterday", "-5m", "0s", "2001-01-01", "nan", "infh"])
def test_a_limit_that_is_no_time_to_come_is_refused_before_anything_starts(tmp_path, text, capsys):
    words = ["launch", "sweep=noop", "--dir", str(tmp_path / "n"), "--until", text]
    assert main(words) == 2
    assert f"--until {text}" in capsys.readouterr().err
    assert not (tmp_path / "n").exists()


@pytest.mark.parametrize(("words", "most"), [(["--workers", 1], 1), (["--gpus", 1], 2)])
def test_a_cap_changes_how_much_a_live_sweep_uses(tmp_path, words, most, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")  # no run touches them
    manifest = noop_manifest(60, "resources.gpus_per_worker=0.5", target=f"{HERE}.Placed", duration_s=0.15)
    capped_at: list[float] = []

    def cap() -> None:
        assert emsweep("cap", tmp_path, *words) == 0
        capped_at.append(time.time())

    with Person(lambda: num_done(tmp_path) >= 8, cap):
        run(tmp_path, manifest, pool="local", num_workers=4, unit_s=0.0)
    spans = [(row["began_at"], row["ended_at"]) for row in rows(tmp_path)]
    assert overlap([s for s in spans if s[0] < capped_at[0]]) > most
    late = [s for s in spans if s[0] > capped_at[0] + 1.0]
    assert len(late) > 5
    assert overlap(late) <= most


def test_fractions_of_a_gpu_are_shared_and_never_oversold(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    manifest = noop_manifest(24, "resources.gpus_per_worker=0.5", target=f"{HERE}.Placed", duration_s=0.1)
    run(tmp_path, manifest, pool="local")
    by_device: dict[str, list] = {}
    for row in rows(tmp_path):
        by_device.setdefault(row["device"], []).append((row["began_at"], row["ended_at"]))
    assert set(by_device) == {"3", "5"}
    assert {overlap(spans) for spans in by_device.values()} == {2}


def test_a_gang_runs_as_one_and_its_result_counts_once(tmp_path):
    manifest = noop_manifest(12, "resources.world_size=2", target=f"{HERE}.Placed", duration_s=0.0)
    assert run(tmp_path, manifest, pool="local", num_workers=4).committed == 12
    verdict = verify(Layout(tmp_path), manifest)
    assert (verdict.ok, verdict.superseded) == (True, 0)
    assert {row["world_size"] for row in rows(tmp_path)} == {2}
    assert overlap([(row["began_at"], row["ended_at"]) for row in rows(tmp_path)]) <= 2


def test_sigterm_lets_running_work_finish_and_loses_nothing(tmp_path):
    manifest = noop_manifest(20, duration_s=0.4)
    stop = lambda: os.kill(os.getpid(), signal.SIGTERM)  # noqa: E731
    with Person(lambda: num_done(tmp_path) >= 3, stop):
        summary = run(tmp_path, manifest, pool="local", num_workers=2)
    assert summary.interrupted
    assert 3 <= summary.committed < 20
    assert summary.committed == num_done(tmp_path), "what ran had its grace"
    assert run(tmp_path, manifest, pool="local", num_workers=2).committed == 20
    assert {row["attempt"] for row in rows(tmp_path)} <= {0, 1}


def test_cap_needs_a_live_driver(tmp_path, capsys):
    run(tmp_path, noop_manifest(2))
    assert main(["cap", str(tmp_path), "--workers", "1"]) == 2
    assert "no driver is at work" in capsys.readouterr().err


def overlap(spans: list[tuple[float, float]]) -> int:
    """Most spans that overlap at one time."""
    edges = sorted([(begin, 1) for begin, _ in spans] + [(end, -1) for _, end in spans])
    level = most = 0
    for _, step in edges:
        level += step
        most = max(most, level)
    return most


def test_stop_drains_a_live_sweep_from_outside(tmp_path):
    manifest = noop_manifest(60, duration_s=0.2)
    with Person(lambda: num_done(tmp_path) >= 2, lambda: emsweep("stop", tmp_path)):
        summary = run(tmp_path, manifest, pool="local", num_workers=2)
    assert (summary.interrupted, summary.reason) == (True, "asked to stop")
    assert 2 <= summary.committed < 60
    assert {row["attempt"] for row in rows(tmp_path)} <= {0, None}


def test_requests_that_make_no_sense_are_passed_over(tmp_path):
    manifest = noop_manifest(30, duration_s=0.1)
    strange = [b"no json", b"[1]", b'{"verb": "cap"}', b'{"verb": "cancel", "filters": ["="]}']
    strange.append(b'{"verb": "dance"}')
    left = [tmp_path / "control" / f"cap-{number}-x.json" for number in range(len(strange))]

    def ask() -> None:
        for file, content in zip(left, strange, strict=True):
            file.write_bytes(content)

    with Person(lambda: num_done(tmp_path) >= 1, ask):
        assert run(tmp_path, manifest).committed == 30
    assert not any(file.exists() for file in left)


def test_what_cancel_reports_is_already_so(tmp_path, capsys):
    manifest = noop_manifest(300, duration_s=0.02)
    answers: list[dict] = []

    def ask() -> None:
        emsweep("cancel", tmp_path, "seed>=200")
        answers.append(json.loads(capsys.readouterr().out))

    with Person(lambda: num_done(tmp_path) >= 1, ask):
        run(tmp_path, manifest)
    assert answers[0]["cancelled"] == 100


def lr_manifest(*words):
    return noop_manifest(2, "optim.lr=1e-4,2e-4", *words)


def test_cancel_and_rerun_take_short_names_and_outcomes_as_tables_do(tmp_path, capsys):
    manifest = lr_manifest()
    with Session(Layout(tmp_path)) as session:
        session.freeze(manifest, pool="inline", address=None)
    assert emsweep("cancel", tmp_path, "lr=1e-4", "seed=0") == 0
    assert json.loads(capsys.readouterr().out)["cancelled"] == 1
    assert emsweep("rerun", tmp_path, "lr=1e-4", "--pool", "inline") == 1, "the other rate is still to run"
    ran = {(row["optim.lr"], row["seed"]) for row in rows(tmp_path) if row["outcome"] == "done"}
    assert ran == {(1e-4, 0), (1e-4, 1)}
    assert emsweep("cancel", tmp_path, "outcome=pending") == 0
    assert emsweep("rerun", tmp_path, "outcome=cancelled", "lr>1e-4", "--pool", "inline") == 0
    assert {row["outcome"] for row in rows(tmp_path)} == {"done"}


@pytest.mark.parametrize("verb", ["cancel", "rerun", "merge", "table", "report"])
@pytest.mark.parametrize(
    ("words", "says"),
    [("lr=7", "optim.lr takes 1e-4, 2e-4"), ("lrr=1e-4", 'did you mean \\"lr'), ("lr='1", "not closed")],
)
def test_every_verb_refuses_a_filter_in_the_same_words(tmp_path, capsys, verb, words, says):
    with Session(Layout(tmp_path)) as session:
        session.freeze(lr_manifest(), pool="inline", address=None)
    assert emsweep(verb, tmp_path, words) == 2
    assert says in capsys.readouterr().out


def test_cancel_of_a_live_sweep_takes_short_names(tmp_path):
    manifest = lr_manifest(f"trainer.target={HERE}.Endless", "+trainer.params.below=2")
    with Person(lambda: is_running(tmp_path, 2), lambda: emsweep("cancel", tmp_path, "lr=1e-4,2e-4")):
        summary = run(tmp_path, manifest, pool="local", num_workers=2, unit_s=0.0)
    assert summary.cancelled == 4


def test_the_version_is_that_of_the_package(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"emsweep {importlib.metadata.version('emsweep')}\n"
