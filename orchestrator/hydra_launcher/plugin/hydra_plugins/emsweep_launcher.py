"""``hydra/launcher=emsweep``, for Hydra to find; :mod:`orchestrator.hydra_launcher` does the work.

Installed as ``hydra_plugins.emsweep_launcher``. Hydra imports it whenever any application starts, so it
imports nothing else; and before it is known by its name, so annotations must not be postponed.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class EmsweepLauncherConf:
    """Options below ``hydra.launcher``; ``null`` leaves one to its default."""

    _target_: str = "hydra_plugins.emsweep_launcher.EmsweepLauncher"
    directory: str = "outputs/${hydra.job.name}"
    """Sweep directory: the same one again resumes."""
    pool: str = "local"
    """``local``, ``ray`` or ``inline``."""
    address: str | None = None
    """Address of a running Ray cluster."""
    num_workers: int | None = None
    """Processes at once; one a core, or as many as the GPUs carry."""
    threads_per_worker: int = 1
    """Compute threads of a process."""
    gpus_per_worker: float = 0.0
    """GPUs of a job; a fraction shares one."""
    cpus_per_worker: float = 1.0
    """Cores of a job."""
    memory_gib: float = 0.0
    """Host memory of a job."""
    timeout_s: float = 0.0
    """Longest a job may take; 0 sets no limit."""
    retries: int | None = None
    """Retries of a job that raises what may pass, such as a lost connection; the same twice ends it."""
    prune: Any = None
    """Stops jobs that do badly by what they report: ``{kind: asha, metric: loss, direction: min}`` and the
    other keys of ``prune=asha``."""


class EmsweepLauncher(Launcher):
    """Runs a multirun's jobs as runs of a sweep directory."""

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._multirun: Any = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra knows of the application."""
        _require_own_packages()
        from orchestrator.hydra_launcher.multirun import Multirun

        self._multirun = Multirun(self._options, hydra_context, task_function, config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run these jobs, those with a result excepted, and return what became of each, in order."""
        from sweeps.spec.errors import UserError

        try:
            return self._multirun.launch(job_overrides, initial_job_idx)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(2) from None


def _require_own_packages() -> None:
    """End with one line where a module of the application has the name of a package that we need."""
    from emsweep import origins

    try:
        notes = origins().claim(origins().OF_WORKERS)
    except ImportError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    for text in notes:
        print(f"note: {text}", file=sys.stderr)


ConfigStore.instance().store(
    group="hydra/launcher", name="emsweep", node=EmsweepLauncherConf, provider="emsweep"
)
