"""Fixtures of the fault suite, and its tally."""

from __future__ import annotations

import shutil

import pytest

from tests.chaos.harness import Sweep, Tally

RUNS, DURATION_S = 200, 0.01
"""Runs of the sweep that is disturbed, and seconds each takes: about a second of work on two processes."""

WORDS = ("sweep=noop", f"sweep.n={RUNS}", f"+trainer.params.duration_s={DURATION_S}", "cluster.num_workers=2")


@pytest.fixture(scope="session")
def reference(tmp_path_factory):
    """The numbers of the same sweep, undisturbed."""
    sweep = Sweep(tmp_path_factory.mktemp("undisturbed") / "sweep", *WORDS, pool="inline")
    sweep.finish()
    yield sweep.numbers()
    shutil.rmtree(sweep.temporary)


@pytest.fixture
def sweep(tmp_path):
    """A sweep on local processes, not yet launched."""
    made = Sweep(tmp_path / "sweep", *WORDS)
    yield made
    for process in made.processes():
        process.kill()
    shutil.rmtree(made.temporary)


@pytest.fixture
def ray_sweep(tmp_path):
    """The same sweep on a Ray of its own."""
    made = Sweep(tmp_path / "sweep", *WORDS, pool="ray")
    yield made
    for process in made.processes():
        process.kill()
    shutil.rmtree(made.temporary, ignore_errors=True)


def pytest_terminal_summary(terminalreporter):
    if Tally.injected:
        terminalreporter.write_line(f"faults injected: {Tally.injected}, survived: {Tally.survived}")
