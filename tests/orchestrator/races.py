"""Small real races for tests: cells that differ in a planted effect, with luck of spread 1 on top."""

from __future__ import annotations

from sweeps.compose import compose_sweep
from sweeps.manifest.build import build_manifest
from tests.orchestrator.trainers import HERE

SCORE = "trainer.metrics.score={direction: max, range: [-100, 100]}"


def raced(*words, effects="-20,0,20", seeds=16, search=("search=race", "search.base=0"), **params):
    """Cells that differ in a planted effect, luck of spread 1 on top."""
    params = {"sleep_s": 0.03, **params}  # longer than a turn of the driver's between them
    more = [f"+trainer.params.{key}={value}" for key, value in params.items()]
    return build_manifest(
        compose_sweep(
            [
                "sweep=noop",
                f"trainer.target={HERE}.Lucky",
                f"+trainer.params.effect={effects}",
                f"seed=range({seeds})",
                f"+{SCORE}",
                *more,
                *search,
                *words,
            ]
        )
    )
