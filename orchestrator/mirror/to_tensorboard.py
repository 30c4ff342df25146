"""TensorBoard event files. Owns ``tensorboard/`` inside the sweep directory: a folder per cell and run.

``tensorboard --logdir D/tensorboard`` shows the curves, and the axes in its HParams tab.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

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
        events = self.follow(run)
        for row in run.steps:
            events.log(row["step"], {k: v for k, v in row.items() if k != "step"})
        last = run.steps[-1]["step"] if run.steps else 0
        events.log(last, {f"run/{k}": float(v) for k, v in run.summary.items() if is_number(v)})
        events.close()

    def follow(self, run: FinishedRun) -> _Events:
        """Begin a run's event file, with its axes."""
        return _Events(self._folder / f"cell-{run.cell}" / run.run_id, run)

    def close(self) -> None:
        """Nothing is open between runs."""


class _Events:
    """The event file of one run."""

    def __init__(self, folder: Path, run: FinishedRun) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._at = run.finished_at
        self._writer = EventFileWriter(str(folder))
        axes = {k: v if isinstance(v, (int, float, str)) else str(v) for k, v in run.axes.items()}
        described = hparams_pb(axes, trial_id=run.run_id, start_time_secs=self._at)
        self._writer.add_event(Event(wall_time=self._at, summary=described))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        rows = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._writer.add_event(Event(wall_time=self._at, step=step, summary=Summary(value=rows)))

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def open_target(where: Destination) -> TensorBoardTarget:
    """Open the folder; raises UserError when tensorboard is not installed."""
    try:
        import tensorboard  # noqa: F401
    except ImportError as error:
        raise UserError("mirror --to tensorboard needs tensorboard: pip install 'emsweep[mirror]'") from error
    return TensorBoardTarget(where)
