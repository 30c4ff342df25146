"""What all tests of packs train with."""

from __future__ import annotations

import pytest

from trainers.em import EntropyMinimization
from trainers.protocol import WorkerContext


@pytest.fixture(scope="module")
def trainer():
    trainer = EntropyMinimization(WorkerContext())
    yield trainer
    trainer.close()
