"""Small real sweeps for tests: real manifests, real directories, the inline or the local pool."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.driver.run_summary import Summary
from orchestrator.driver.session import Session
from orchestrator.planning.cluster import Cluster
from orchestrator.scheduling.config import SchedulerConfig
from orchestrator.store.layout import Layout
from orchestrator.trust.consent import consent_of
from orchestrator.trust.gate import permit
from sweeps.compose import compose_sweep
from sweeps.manifest.build import build_manifest
from sweeps.manifest.manifest import Manifest


def noop_manifest(num_runs: int, *words: str, target: str = "", **params: Any) -> Manifest:
    """Runs that compute nothing, or what the trainer ``target`` does."""
    overrides = ["sweep=noop", f"sweep.n={num_runs}", *words]
    if target:
        overrides.append(f"trainer.target={target}")
    overrides += [f"+trainer.params.{key}={value}" for key, value in params.items()]
    return build_manifest(compose_sweep(overrides))


def run(
    folder: Path,
    manifest: Manifest,
    *,
    pool: str = "inline",
    num_workers: int | None = None,
    until: float | None = None,
    quiet: bool = True,
    **settings: Any,
) -> Summary:
    """Launch or resume a manifest in a folder."""
    cluster = Cluster(pool=pool, num_workers=num_workers, settings=SchedulerConfig(**settings))
    layout = Layout(folder)
    permission = permit(layout, manifest, consent_of(manifest.overrides, launched=True))
    with Session(layout, permission) as session:
        session.freeze(manifest, pool=pool, address=None)
        return session.run(manifest, cluster, session.read(manifest), quiet=quiet, until=until)
