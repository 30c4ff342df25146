"""A run again, cold, and what counts as a difference."""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile

import pytest

from orchestrator.inspect.replay import _environment as environment_of
from orchestrator.inspect.replay import differences, find_run, recorded_spec, replay
from orchestrator.store.layout import Layout
from orchestrator.store.spool import SpoolHealth, encode_line, read_spool
from orchestrator.trust.consent import consent_of
from orchestrator.trust.gate import permit
from sweeps.spec.errors import UserError
from tests.orchestrator.sweeping import noop_manifest, run
from tests.orchestrator.trainers import HERE
from trainers.protocol import RunResult


def result(**metrics) -> RunResult:
    return RunResult(outcome="done", metrics=metrics, steps=[{"step": 0, "loss": 0.5}], layout={"threads": 1})


def test_equal_results_do_not_differ_whatever_their_timings_and_layout():
    first = result(draw=0.5, wall_s=1.0, bad=math.nan)
    second = RunResult(
        outcome="done",
        metrics={"draw": 0.5, "wall_s": 9.0, "bad": math.nan},
        steps=[{"step": 0, "loss": 0.5}],
        layout={"threads": 2},
    )
    assert list(differences(first, second)) == []


@pytest.mark.parametrize(
    ("changed", "name", "size"),
    [
        ({"draw": 0.5 + 2**-53}, "metrics.draw", 2**-53),
        ({"draw": math.nan}, "metrics.draw", math.inf),
        ({}, "metrics.draw", math.inf),
        ({"draw": 0.5, "more": 1}, "metrics.more", math.inf),
        ({"draw": "half"}, "metrics.draw", math.inf),
    ],
)
def test_the_last_bit_a_missing_number_and_one_too_many_are_differences(changed, name, size):
    assert list(differences(result(draw=0.5), result(**changed))) == [(name, size)]


def test_a_run_is_found_by_id_by_a_beginning_and_by_name():
    manifest = noop_manifest(50)
    run_id = manifest.run_ids[7]
    assert {find_run(manifest, t) for t in (run_id, run_id[:16], manifest.name(7))} == {7}
    with pytest.raises(UserError, match="no run has that id or name"):
        find_run(manifest, "zzz")
    with pytest.raises(UserError, match="50 runs begin so; give more digits"):
        find_run(manifest, "")


def test_the_recorded_layout_is_used_again():
    spec = noop_manifest(1).spec(0)
    again = recorded_spec(spec, {"zero_stage": 2, "micro_batch": 8, "world_size": 2, "host": "h"})
    assert (again.engine.zero_stage, again.engine.micro_batch, again.resources.world_size) == (2, 8, 2)
    assert again.run_id == spec.run_id
    assert recorded_spec(spec, {}) == spec


def test_rows_that_were_decoded_at_once_are_used_again_whatever_was_asked_for():
    spec = noop_manifest(1).spec(0)
    again = recorded_spec(spec, {"rollout_rows": 16, "eval_rows": 128})
    assert (again.engine.rollout_rows, again.engine.eval_rows) == (16, 128)
    assert again.run_id == spec.run_id


def test_a_run_that_repeats_is_equal_and_one_that_was_altered_is_named(tmp_path):
    manifest = noop_manifest(3, steps=2)
    run(tmp_path, manifest)
    layout = Layout(tmp_path)
    permission = permit(layout, manifest, consent_of())
    same = replay(layout, manifest, 1, permission)
    assert (same.equal, same.max_abs_diff, same.cause) == (True, 0.0, "")
    assert same.compared > 4
    alter(layout, manifest.run_ids[1])
    other = replay(layout, manifest, 1, permission)
    assert not other.equal
    assert other.fields == ["metrics.draw"]
    assert other.max_abs_diff > 0
    assert "two fresh processes agree" in other.cause


def test_a_run_of_several_ranks_is_repeated_by_as_many(tmp_path):
    manifest = noop_manifest(2, "resources.world_size=2")
    run(tmp_path, manifest, pool="local", num_workers=1)
    layout = Layout(tmp_path)
    permission = permit(layout, manifest, consent_of(manifest.overrides, launched=True))
    assert replay(layout, manifest, 1, permission).equal


def test_a_run_that_never_repeats_is_said_not_to(tmp_path):
    manifest = noop_manifest(1, target=f"{HERE}.Restless")
    run(tmp_path, manifest)
    permission = permit(Layout(tmp_path), manifest, consent_of())
    result = replay(Layout(tmp_path), manifest, 0, permission)
    assert not result.equal
    assert "the run does not repeat: two fresh processes differ in metrics.draw" in result.cause


def test_another_version_of_the_numbers_or_of_the_process_is_the_cause():
    then = {"numerics": 1, "zero_stage": 0, "process": {}, "host": "a"}
    now = {"numerics": 2, "zero_stage": 0, "process": {"flush_denormal": "True"}, "host": "b"}
    assert environment_of(then, now) == [
        "numerics: 1 then, 2 now",
        "process: {} then, {'flush_denormal': 'True'} now",
        "host: 'a' then, 'b' now",
    ]


def alter(layout: Layout, run_id: str) -> None:
    """Change a stored number, with a checksum that is right: a cosmic ray would not."""
    (path,) = [p for p in layout.spools.iterdir() if not p.name.startswith("driver-")]
    data = path.read_bytes()
    for line in read_spool(path, SpoolHealth()):
        if line.header.get("run_id") == run_id:
            stored = line.result()
            text = repr(stored["metrics"]["draw"])
            others = (float(text[:5] + digit + text[6:]) for digit in "123456789" if digit != text[5])
            stored["metrics"]["draw"] = next(x for x in others if len(repr(x)) == len(text))
            changed = encode_line(line.header, stored)
            assert len(changed) == line.length
            path.write_bytes(data[: line.offset] + changed + data[line.offset + line.length :])


def test_a_run_without_a_result_and_a_folder_that_exists_are_refused(tmp_path):
    manifest = noop_manifest(4, target=f"{HERE}.Faulty", every=2)
    run(tmp_path, manifest)
    permission = permit(Layout(tmp_path), manifest, consent_of())
    failed = next(i for i in range(4) if manifest.axis_values(i)["seed"] == 2)
    with pytest.raises(UserError, match="has no result to compare with"):
        replay(Layout(tmp_path), manifest, failed, permission)
    with pytest.raises(UserError, match="is there already"):
        replay(Layout(tmp_path), manifest, 0, permission, save=tmp_path)


def test_a_killed_replay_leaves_nothing_that_the_next_driver_does_not_remove(tmp_path, monkeypatch):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)
    manifest = noop_manifest(1, duration_s=0.5)
    run(tmp_path / "s", manifest)
    words = [sys.executable, "-m", "orchestrator.cli", "replay", tmp_path / "s", manifest.run_ids[0]]
    process = subprocess.Popen(words)
    while not list(temporary.glob("emsweep-replay-*/replay.log")):
        assert process.poll() is None
    process.kill()
    process.wait()
    assert list(temporary.iterdir())
    run(tmp_path / "s", manifest)
    assert not list(temporary.iterdir())
