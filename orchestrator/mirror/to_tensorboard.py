"""TensorBoard event files. Owns ``tensorboard/`` inside the sweep directory: a folder per cell and run.

``tensorboard --logdir D/tensorboard`` shows the curves, and the axes in its HParams tab.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection
from typing import Any

from orchestrator.mirror.reading import is_number
from orchestrator.mirror.target import Destination, FinishedRun
from sweeps.spec.errors import UserError


class TensorBoardTarget:
    """One log directory."""

    def __init__(self, where: Destination) -> None:
        self._folder = where.folder

    def clean(self, run_ids: Collection[str]) -> None:
        """Delete the folders of runs that were being written when an earlier call died."""
        for path in self._folder.glob("cell-*/*"):
            if path.name in run_ids:
                shutil.rmtree(path)

    def copy(self, run: FinishedRun) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        def scalars(values: Any, step: int) -> Event:
            rows = [Summary.Value(tag=k, simple_value=v) for k, v in values.items()]
            return Event(wall_time=run.finished_at, step=step, summary=Summary(value=rows))

        writer = EventFileWriter(str(self._folder / f"cell-{run.cell}" / run.run_id))
        axes = {k: v if isinstance(v, (int, float, str)) else str(v) for k, v in run.axes.items()}
        described = hparams_pb(axes, trial_id=run.run_id, start_time_secs=run.finished_at)
        writer.add_event(Event(wall_time=run.finished_at, summary=described))
        for row in run.steps:
            writer.add_event(scalars({k: v for k, v in row.items() if k != "step"}, row["step"]))
        last = run.steps[-1]["step"] if run.steps else 0
        numbers = {f"run/{k}": float(v) for k, v in run.summary.items() if is_number(v)}
        writer.add_event(scalars(numbers, last))
        writer.close()

    def close(self) -> None:
        """Nothing is open between runs."""


def open_target(where: Destination) -> TensorBoardTarget:
    """Open the folder; raises UserError when tensorboard is not installed."""
    try:
        import tensorboard  # noqa: F401
    except ImportError as error:
        raise UserError("mirror --to tensorboard needs tensorboard: pip install 'emsweep[mirror]'") from error
    return TensorBoardTarget(where)
