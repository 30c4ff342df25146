"""A packed sweep from its launch to its replay."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.inspect.replay import recorded_spec, replay, stored_result
from orchestrator.store.layout import Layout
from orchestrator.trust.consent import consent_of
from orchestrator.trust.gate import permit
from sweeps.compose import compose_sweep
from sweeps.manifest.build import build_manifest
from tests.orchestrator.sweeping import run
from tests.trainers.comparing import numbers
from trainers.em import EntropyMinimization
from trainers.protocol import RunContext, WorkerContext

WORDS = ["sweep=quickstart", "model=tiny-32", "example=carry-1", "optim.lr=1e-4,1e-3", "seed=range(4)"]


PACKS = {"whole": [], "adapters": ["seed=0,1", "model.adapter=lora", "model.adapter_rank=3,8"]}


@pytest.fixture(scope="module", params=PACKS)
def packed(request, tmp_path_factory):
    """A packed sweep of eight runs."""
    layout = Layout(tmp_path_factory.mktemp("packs") / "sweep")
    words = [*WORDS, *PACKS[request.param], "eval.limit=20", "steps=3", "engine.pack=4"]
    manifest = build_manifest(compose_sweep(words))
    run(layout.root, manifest)
    return layout, manifest


def test_a_packed_sweep_commits_each_run_with_the_bits_it_has_alone(packed):
    layout, manifest = packed
    trainer = EntropyMinimization(WorkerContext())
    for row in range(len(manifest)):
        stored = stored_result(layout, manifest, row)
        assert stored.layout["pack"] == 4
        alone = trainer.run(manifest.spec(row), RunContext())
        assert numbers(stored.to_json()) == numbers(alone.to_json())
    trainer.close()


@pytest.mark.slow
def test_a_pack_over_two_ranks_is_committed_and_replayed_with_the_bits_of_one(tmp_path):
    words = [*WORDS[:3], "optim.lr=1e-3", "seed=range(3)", "model.adapter=lora", "steps=2", "eval.limit=20"]
    several = [*words, "engine.pack=4", "resources.world_size=2", "engine.zero_stage=3"]
    manifest = build_manifest(compose_sweep(several))
    layout = Layout(tmp_path / "sweep")
    run(layout.root, manifest, pool="local", num_workers=1)
    of_one = build_manifest(compose_sweep([*words, "engine.pack=4"]))
    trainer = EntropyMinimization(WorkerContext())
    for row in range(len(manifest)):
        stored = stored_result(layout, manifest, row)
        assert (stored.layout["pack"], stored.layout["world_size"]) == (4, 2)
        alone = trainer.run(of_one.spec(row), RunContext())
        assert numbers(stored.to_json()) == numbers(alone.to_json())
    trainer.close()
    permission = permit(layout, manifest, consent_of(manifest.overrides, launched=True))
    assert replay(layout, manifest, 2, permission).equal


@pytest.mark.parametrize("packed", [pytest.param("whole", marks=pytest.mark.slow), "adapters"], indirect=True)
def test_a_packed_run_is_replayed_bit_for_bit(packed):
    layout, manifest = packed
    permission = permit(layout, manifest, consent_of(manifest.overrides, launched=True))
    again = replay(layout, manifest, 5, permission)
    assert again.equal, again.fields
    assert again.environment == []


def test_a_run_is_replayed_by_itself_where_it_was_trained_so(packed):
    _, manifest = packed
    assert recorded_spec(manifest.spec(0), {"pack": 8}).engine.pack == 8
    assert recorded_spec(manifest.spec(0), {"zero_stage": 0}).engine.pack == 0


def worker_at_work(root: Path) -> int:
    """The process of the first worker, once some of its runs are done."""
    while True:
        for spool in (root / "spool").glob("*w1.jsonl"):
            lines = spool.read_text().splitlines()
            if len(lines) > 2:
                return int(json.loads(lines[0])["pid"])
        time.sleep(0.02)


@pytest.mark.slow
def test_a_worker_killed_amid_a_pack_costs_no_run_and_changes_no_bit(tmp_path):
    layout = Layout(tmp_path / "sweep")
    words = [*WORDS[:3], "optim.lr=1e-4,4e-4,1e-3", "seed=range(6)", "eval.limit=20", "engine.pack=6"]
    command = [sys.executable, "-m", "orchestrator.cli", "launch", *words, "--pool", "local", "--json"]
    command += ["cluster.num_workers=1", "--dir", str(layout.root)]
    launch = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    os.kill(worker_at_work(layout.root), signal.SIGKILL)
    told, _ = launch.communicate(timeout=200)
    assert launch.returncode == 0
    assert json.loads(told.splitlines()[-1])["committed"] == 18
    manifest = build_manifest(compose_sweep(words))
    trainer = EntropyMinimization(WorkerContext())
    alone = dict(trainer.run_group([manifest.spec(row) for row in range(18)], [RunContext()] * 18))
    trainer.close()
    for row in range(18):
        assert numbers(stored_result(layout, manifest, row).to_json()) == numbers(alone[row].to_json())
