"""A sweep directory as something to start from: its manifest and the weights that its runs left."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import pyarrow.parquet as pq

from orchestrator.store.digests import require_intact
from orchestrator.store.frozen import require_frozen
from orchestrator.store.layout import Layout
from orchestrator.store.opening import checked_manifest
from sweeps.manifest.lineage import KeptWeights
from sweeps.spec import SpecError

_SAID = {
    "failed": "failed",
    "quarantined": "failed",
    "cancelled": "was cancelled",
    "stopped": "was stopped early",
    "diverged": "diverged, and its weights are not numbers",
}


class EarlierSweep:
    """The sweep of a directory; read when it is asked.

    Raises:
        SpecError: when the directory holds no manifest.
    """

    def __init__(self, folder: Path) -> None:
        self._layout = Layout(folder.expanduser().absolute())
        if self._layout.manifest.exists():
            require_frozen(self._layout)
        self.manifest = checked_manifest(self._layout, self._layout.manifest)
        """Its runs."""

    def kept_weights(self, row: int, key: str) -> KeptWeights:
        """The weights that a run left at its end.

        Args:
            row: the run, by its index in the manifest.
            key: what asks, for messages.

        Raises:
            SpecError: for a run that has no result, or left no weights.
        """
        manifest, sweep = self.manifest, self._layout.root
        run_id = manifest.run_ids[row]
        outcome = self._outcomes.get(run_id, "")
        if outcome and outcome != "done":
            told = _SAID.get(outcome, "has no result yet")
            raise SpecError(f"{key}: run {run_id} of {sweep} {told}; name one that is done")
        folder = self._layout.checkpoints(run_id) / f"step-{int(manifest.steps[row])}"
        if not folder.is_dir():
            policy = f"resources.keep_checkpoints={manifest.group('resources', row).keep_checkpoints}"
            raise SpecError(
                f"{key}: run {run_id} of {sweep} left no weights ({policy}); launch "
                "that sweep again in another directory with resources.keep_checkpoints=last, or make the run "
                "part of this sweep"
            )
        return KeptWeights(run_id, folder, manifest.group("model", row))

    @cached_property
    def _outcomes(self) -> dict[str, str]:
        """Outcome by run id, as far as they are tabled."""
        table = self._layout.table("runs")
        if not table.is_file():
            return {}
        require_intact(self._layout, table)
        rows = pq.read_table(table, columns=["run_id", "outcome"]).to_pydict()
        return dict(zip(rows["run_id"], rows["outcome"], strict=True))
