"""Weights & Biases. Owns ``wandb/`` inside the sweep directory: its offline and online run folders.

Without a key runs are written offline, about 70 ms each, for ``wandb sync``. Online, W&B's own client repeats
what the server refuses for now; what it gives up on is tried again as a whole, under the same run id.

All that emsweep uses of W&B's client is here. Some of it the client does not promise to keep: settings whose
names begin with ``x_``, and how it names a run's folder; a test holds these against :data:`CHECKED_VERSION`.
"""

from __future__ import annotations

import netrc
import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from orchestrator.mirror.target import Destination, FinishedRun
from sweeps.spec.errors import UserError

CHECKED_VERSION = "0.31.0"
"""The version of the client whose settings and folders were looked at."""

UNPROMISED = {"x_disable_stats": True, "x_disable_meta": True, "x_save_requirements": False}
"""Settings without which each run would measure the machine and list its packages once more."""

MAX_TAG = 64
"""W&B refuses longer tags."""

HOST = "api.wandb.ai"
"""Where a login without ``WANDB_BASE_URL`` is for."""


class WandbTarget:
    """One W&B project."""

    def __init__(self, wandb: Any, where: Destination) -> None:
        self._wandb, self._where = wandb, where
        self.online = has_key() if where.online is None else where.online
        self._settings = wandb.Settings(
            mode="online" if self.online else "offline",
            silent=True,
            console="off",
            disable_git=True,
            disable_code=True,
            **UNPROMISED,
        )

    def clean(self, run_ids: Collection[str]) -> None:
        """Delete offline folders of runs that were being copied when an earlier call died."""
        for path in self._where.folder.glob("*run-*-*"):
            if path.is_dir() and not path.is_symlink() and path.name.rsplit("-", 1)[-1] in run_ids:
                shutil.rmtree(path)

    def copy(self, run: FinishedRun) -> None:
        """Write or upload one run.

        Raises:
            ConnectionError: when the server cannot be reached or answers with errors.
        """
        try:
            copy = self._begun(run)
            for row in run.steps:
                copy.log({k: v for k, v in row.items() if k != "step"}, step=row["step"])
            copy.summary.update({**run.summary, "cell": run.cell})
            copy.finish(exit_code=0)
        except self._wandb.errors.CommError as error:
            self._wandb.teardown()  # its background process still holds the run
            raise ConnectionError(str(error)) from error

    def follow(self, run: FinishedRun) -> _LiveRun:
        """Begin a run that is at work.

        Raises:
            ConnectionError: when the server cannot be reached or answers with errors.
        """
        try:
            return _LiveRun(self._begun(run))
        except self._wandb.errors.CommError as error:
            raise ConnectionError(str(error)) from error

    def close(self) -> None:
        """Nothing is open between runs."""

    def _begun(self, run: FinishedRun) -> Any:
        return self._wandb.init(
            project=self._where.project,
            entity=self._where.entity,
            dir=str(self._where.folder.parent),
            id=run.run_id,
            name=run.name,
            group=run.group,
            tags=[tag[:MAX_TAG] for tag in run.tags],
            config={"axes": dict(run.axes), **run.config},
            settings=self._settings,
            reinit="create_new",
        )


class _LiveRun:
    """A run of W&B's that is at work."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish(exit_code=0)


def open_target(where: Destination) -> WandbTarget:
    """Open the project; raises UserError when wandb is not installed."""
    try:
        import wandb
    except ImportError as error:
        raise UserError(
            "mirror needs wandb, which is not installed: pip install 'emsweep[mirror]'"
        ) from error
    return WandbTarget(wandb, where)


def has_key() -> bool:
    """Whether W&B's client would find a key: in the environment or in the login that it left."""
    if os.environ.get("WANDB_MODE") == "offline":
        return False
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or f"https://{HOST}").hostname or HOST
    try:
        return (
            netrc.netrc(str(Path(os.environ.get("NETRC") or "~/.netrc").expanduser())).authenticators(host)
            is not None
        )
    except (OSError, netrc.NetrcParseError):
        return False
