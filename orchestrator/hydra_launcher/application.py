"""The application as it travels to the workers. Owns ``hydra/application.pickle`` in the sweep directory."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cloudpickle
from hydra.core.singleton import Singleton
from hydra.core.utils import setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from orchestrator.trust.needs import PICKLE
from sweeps.hydra_internals import add_resolvers, resolvers
from sweeps.manifest.atomic import write_atomically

FILE = PICKLE
"""Where it lies, below the sweep directory. It is read only where :mod:`orchestrator.trust` lets it."""


@dataclass(frozen=True, kw_only=True)
class Application:
    """What a worker needs to run any job."""

    task: TaskFunction
    context: HydraContext
    config: DictConfig
    words: Mapping[str, tuple[int, tuple[str, ...]]]
    """Run id to the job's number and its overrides."""

    def pickled(self) -> bytes:
        """What the workers read, with Hydra's global state and the resolvers that were added."""
        setup_globals()
        state = (Singleton.get_state(), resolvers(), str(Path.cwd()), list(sys.argv))
        return cloudpickle.dumps((state, self))


def save(data: bytes, directory: Path) -> None:
    path = directory / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data)


def load(directory: Path) -> Application:
    (singletons, its_resolvers, folder, argv), application = cloudpickle.loads(
        (directory / FILE).read_bytes()
    )
    os.chdir(folder)
    sys.argv[:] = argv
    Singleton.set_state(singletons)
    add_resolvers(its_resolvers)
    setup_globals()
    return application
