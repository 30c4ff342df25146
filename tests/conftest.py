"""Which tests share a process when several processes run them (``pytest -n 2``)."""

from __future__ import annotations

import gc
import logging
import os
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest

CONFIG_HOME = tempfile.TemporaryDirectory(prefix="emsweep-tests-config-")
os.environ["XDG_CONFIG_HOME"] = CONFIG_HOME.name
"""Where the tests and what they start remember grants: never this user's own folder."""

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")  # as workers have it: more only wait for each other here
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's own, 15, starves its workers beside other tests

TOGETHER = ("browser", "gpu", "slurm")
"""Folders whose tests share what is dear to start, or a device; elsewhere a module's tests stay together."""

GANG = "two_ranks"
"""Fixture that is dear to start and quick to ask: all modules that use it share a process."""

FIRST = ("browser", "gpu", "slurm", "chaos", "integration", "docker", "trainers", "orchestrator")
"""Folders with long modules: begun last, one of them would run alone at the end."""


@pytest.fixture(autouse=True, scope="module")
def light_heap():
    """The collector looks at what a module's tests make, not at all that was imported for the others: a
    driver calls it at its end, and it would take a second.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def process_as_found():
    """No module's tests find what those before left behind: folders to import from, loggers switched off (as
    Hydra does where its own logging is disabled).
    """
    folders, level = list(sys.path), logging.root.level
    silent = {name for name, logger in _loggers() if logger.disabled}
    yield
    sys.path[:] = [folder for folder in sys.path if folder in folders or "site-packages" in folder]
    logging.root.setLevel(level)
    for name, logger in _loggers():
        logger.disabled = name in silent


def _loggers():
    made = logging.root.manager.loggerDict.items()
    return [(name, logger) for name, logger in made if isinstance(logger, logging.Logger)]


def pytest_collection_modifyitems(config, items):
    if hasattr(config, "workerinput"):
        rank = {folder: number for number, folder in enumerate(FIRST)}
        items.sort(key=lambda item: rank.get(_folder(item.nodeid), len(FIRST)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    """One more than the cores that are ours: many tests wait for what they have started."""
    return len(os.sched_getaffinity(0)) + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadScopeScheduling

    class ByModule(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            folder, module = _folder(nodeid), nodeid.partition("::")[0]
            return folder if folder in TOGETHER else GANG if _names_gang(module) else module

    config.option.loadscopereorder = False  # the order above, not the longest list of tests first
    return ByModule(config, log)


@cache
def _names_gang(module):
    return GANG in (Path(__file__).parent.parent / module).read_text()


def _folder(nodeid):
    """Folder below ``tests`` that a test is in."""
    return Path(nodeid.partition("::")[0]).parts[1]
