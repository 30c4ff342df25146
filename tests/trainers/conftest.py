"""What tests of several modules train with. Started once: workers stay warm between runs in use, too."""

from __future__ import annotations

import pytest

from tests.trainers.gangs import Ranks
from trainers.policy_trainer import PolicyTrainer
from trainers.protocol import WorkerContext


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
