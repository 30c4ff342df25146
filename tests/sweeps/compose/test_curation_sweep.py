"""The shipped sweep `curation`: five rounds with and without curation, set as its text says."""

from __future__ import annotations

from sweeps.cost.work_count import count_work
from sweeps.manifest.build import build_manifest
from tests.sweeps.shipped import shipped


def test_curated_and_uncurated_rounds_differ_in_nothing_else():
    manifest = build_manifest(shipped("curation"))
    specs = [manifest.spec(row) for row in range(len(manifest))]
    assert len(specs) == 128
    assert {(spec.steps, spec.own_steps, spec.curate.rounds) for spec in specs} == {(50, 10, 5)}
    assert {spec.eval_steps for spec in specs} == {(0, 10, 20, 30, 40, 50)}
    kinds = {(s.model.name, s.curate.name, s.curate.gamma, s.curate.beta, s.seed) for s in specs}
    curated = [("escaping_collapse", 0.1, beta) for beta in (0.0, 0.1, 0.3)]
    assert kinds == {
        (model, *kind, seed)
        for model in ("tiny-64", "tiny-64-hasty")
        for kind in [("uncurated", 0.0, 0.0), *curated]
        for seed in range(16)
    }
    parts = ("data", "objective", "optim", "schedule", "sampling")
    assert all(len({getattr(spec, part) for spec in specs}) == 1 for part in parts)
    work = count_work(manifest)
    assert (work.naive.rollout_batches, work.naive.steps) == (128 * 5, 128 * 50)
