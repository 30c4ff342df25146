"""Copy finished runs to where people look at experiments: Weights & Biases, MLflow or TensorBoard.

Each run is copied exactly once. ``<target>/mirrored.txt`` inside the sweep directory is the ledger, one
run_id a line, written once a run's copy is closed; a call that dies is resumed by the next one, which first
removes what was left half made. Runs are read in batches from the Parquet tables, so this stays off the path
of the sweep itself and works while one is running.

**Target** a module with a :class:`~orchestrator.mirror.target.Target`. Keys are read by each target's own
client, from the environment or its login; they are never handled here.
"""

from orchestrator.mirror.copying import MirrorReport, mirror_sweep
from orchestrator.mirror.target import TARGETS

__all__ = ["TARGETS", "MirrorReport", "mirror_sweep"]
