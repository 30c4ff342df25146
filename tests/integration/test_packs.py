"""A packed sweep from its launch to its replay."""

from __future__ import annotations

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


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A packed sweep of eight runs."""
    layout = Layout(tmp_path_factory.mktemp("packs") / "sweep")
    manifest = build_manifest(compose_sweep([*WORDS, "eval.limit=20", "steps=3", "engine.pack=4"]))
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
