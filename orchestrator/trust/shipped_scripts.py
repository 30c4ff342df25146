"""Scripts that ship with emsweep: the one kind of command that runs without this user's word.

The rule, as narrow as it can be said: ``[python, SCRIPT.py, …]``, the worker's own interpreter and no option
before the script; the sweep file lies in ``tests/examples`` of the checkout that this code itself runs from,
and so does the script, a plain file directly in it, with no link on the way. What comes after the script are
its arguments: words for a program of ours.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from orchestrator.worker.process_env import OUR_ROOT
from sweeps.manifest.code_files import PYTHON, script_of
from sweeps.spec import TrainerSpec

EXAMPLES = OUR_ROOT / "tests" / "examples"
"""Folder of the scripts that ship with a checkout."""


def is_shipped(trainer: TrainerSpec, examples: Path = EXAMPLES) -> bool:
    """Whether a command only runs a script of ours."""
    words = trainer.command
    if len(words) < 2 or words[0] != PYTHON or not words[1].endswith(".py"):
        return False
    script = script_of(words[:2], Path(trainer.folder))
    if (
        script is None
        or script[0] != 1
        or Path(trainer.folder) != examples
        or not (examples.parents[1] / "pyproject.toml").is_file()
    ):
        return False
    path = Path(os.path.normpath(script[1]))
    return path.parent == examples and ".." not in script[1].parts and _is_plain(path)


def _is_plain(path: Path) -> bool:
    """Whether a path is that of a file, and no link is on the way to it."""
    return stat.S_ISREG(path.lstat().st_mode) and Path(os.path.realpath(path)) == path
