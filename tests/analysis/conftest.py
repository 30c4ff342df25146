"""Synthetic sweep directories, written once a test session."""

from __future__ import annotations

import pytest

from tests.analysis.synthetic import grid_world, quickstart_world, write_sweep


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory):
    """96 runs, all done."""
    return write_sweep(tmp_path_factory.mktemp("store") / "quickstart", quickstart_world())


@pytest.fixture(scope="session")
def ragged(tmp_path_factory):
    """96 runs of which some failed, diverged or have not run."""
    world = quickstart_world(failed=0.05, diverged=0.05, pending=0.05)
    return write_sweep(tmp_path_factory.mktemp("store") / "ragged", world)


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    """13,440 runs of the full study's shape."""
    return write_sweep(tmp_path_factory.mktemp("store") / "study", grid_world())
