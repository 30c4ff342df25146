"""Small real searches for tests: a hill at 0.3, with a little luck of the seed."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from orchestrator.driver.run_summary import Summary
from orchestrator.driver.session import Session
from orchestrator.planning.cluster import Cluster
from orchestrator.planning.search_question import asked_runs, caught_up, continued
from orchestrator.scheduling.config import SchedulerConfig
from orchestrator.store.layout import Layout
from orchestrator.store.proposals import read_proposals
from orchestrator.trust.consent import consent_of
from orchestrator.trust.gate import permit
from sweeps.compose import compose_sweep
from sweeps.manifest.manifest import Manifest
from sweeps.manifest.manifest_file import read_manifest
from tests.orchestrator.trainers import HERE

SCORE = "trainer.metrics.score={direction: max, range: [-100, 100]}"


def searched(
    *words: str, kind: str = "tpe", trials: int = 12, x: str = "interval(0,1)", **params: Any
) -> Manifest:
    """The first runs of a search."""
    more = [f"+trainer.params.{key}={value}" for key, value in params.items()]
    return asked_runs(
        compose_sweep(
            [
                "sweep=noop",
                f"trainer.target={HERE}.Hill",
                f"+trainer.params.x={x}",
                "seed=range(4)",
                f"+{SCORE}",
                f"search={kind}",
                f"search.trials={trials}",
                *more,
                *words,
            ]
        )
    ).manifest


def search(
    folder: Path,
    manifest: Manifest,
    *,
    pool: str = "inline",
    num_workers: int | None = None,
    again: Collection[int] | None = None,
    **settings: Any,
) -> Summary:
    """Launch a search in a folder, go on with it, or run some of its runs ``again``."""
    layout = Layout(folder)
    if layout.manifest.exists():
        earlier = caught_up(read_manifest(layout.manifest), read_proposals(layout))
        manifest = continued(earlier, manifest)
    permission = permit(layout, manifest, consent_of(manifest.overrides, launched=True))
    cluster = Cluster(pool=pool, num_workers=num_workers, settings=SchedulerConfig(**settings))
    with Session(layout, permission) as session:
        session.freeze(manifest, pool=pool, address=None)
        reading = session.read(manifest)
        return session.run(manifest, cluster, reading, quiet=True, only=again, reopen=again or ())


def stored(folder: Path) -> Manifest:
    """The manifest that a folder holds."""
    return read_manifest(Layout(folder).manifest)
