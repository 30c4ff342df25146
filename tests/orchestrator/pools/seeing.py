"""A trainer that writes down what its process sees, and one that leaves a temporary folder behind."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from trainers.noop import Noop


class Seeing(Noop):
    """Leaves a file per run and rank in ``params.folder``, and one when it is closed."""

    def __init__(self, context):
        super().__init__(context)
        self._rank, self._folder = context.rank, None

    def run(self, spec, context):
        self._folder = Path(spec.trainer.params["folder"])
        seen = {"gpus": os.environ.get("CUDA_VISIBLE_DEVICES"), "pid": os.getpid(), "node": _node()}
        (self._folder / f"{spec.seed}-{self._rank}").write_text(json.dumps(seen))
        return super().run(spec, context)

    def close(self):
        (self._folder / f"closed-{self._rank}").touch()


def _node() -> str:
    """Ray's id of the node, where this is one."""
    ray = sys.modules.get("ray")
    return ray.get_runtime_context().get_node_id() if ray and ray.is_initialized() else ""


class Littering(Noop):
    """Makes a temporary folder in each run and removes none."""

    def run(self, spec, context):
        tempfile.mkdtemp()
        return super().run(spec, context)
