"""What tests of several modules train with. Started once: workers stay warm between runs in use, too."""

from __future__ import annotations

import pytest

from tests.trainers.gangs import Ranks
from trainers.policy_trainer import PolicyTrainer
from trainers.protocol import WorkerContext


def pytest_collection_modifyitems(items):
    """Give all tests of the gang to one process of a parallel run: it takes longer to start than to test."""
    for item in items:
        if "two_ranks" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("two_ranks"))


@pytest.fixture(scope="session")
def trainer():
    """A warm worker."""
    trainer = PolicyTrainer(WorkerContext())
    yield trainer
    trainer.close()


@pytest.fixture(scope="session")
def two_ranks():
    """A gang of two processes; starting one takes longer than most of what it is asked."""
    ranks = Ranks(2)
    yield ranks
    ranks.close()
