"""Fixtures of the fault suite, and its tally."""

from __future__ import annotations

import pytest

from tests.chaos.harness import Sweep, Tally

RUNS = 200
PACE_S = 0.03
"""Runs of the sweep that is disturbed, and seconds each takes: three seconds of work on two processes, long
enough to be disturbed on a busy machine.
"""

WORDS = (
    "sweep=noop",
    f"sweep.n={RUNS}",
    "trainer.target=tests.chaos.trainers.Paced",
    "+trainer.params.steps=3",
    "cluster.num_workers=2",
)


@pytest.fixture(scope="session")
def reference(tmp_path_factory):
    """The numbers of the same sweep, undisturbed."""
    sweep = Sweep(tmp_path_factory.mktemp("undisturbed") / "sweep", *WORDS, pool="inline")
    try:
        sweep.finish()
        yield sweep.numbers()
    finally:
        sweep.close()


@pytest.fixture
def new_sweep(tmp_path):
    """Makes the sweep in other places and ways than ``sweep`` does."""
    made = []

    def make(folder=tmp_path / "sweep", words=WORDS, pool="local", pace_s=PACE_S):
        made.append(Sweep(folder, *words, pool=pool, pace_s=pace_s))
        return made[-1]

    yield make
    for sweep in made:
        sweep.close()


@pytest.fixture
def sweep(new_sweep):
    """The sweep on local processes, not yet launched."""
    return new_sweep()


@pytest.fixture
def ray_sweep(new_sweep):
    """The sweep on a Ray of its own, not yet launched."""
    return new_sweep(pool="ray")


def pytest_terminal_summary(terminalreporter):
    if Tally.injected:
        terminalreporter.write_line(f"faults injected: {Tally.injected}, survived: {Tally.survived}")
