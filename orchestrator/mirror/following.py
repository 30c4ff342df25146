"""Runs at work, shown by a target while they report: provisional copies, which give way to the whole ones."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from orchestrator.mirror.reading import is_number
from orchestrator.mirror.target import FinishedRun, LiveCopy, LiveTarget, Target
from orchestrator.store.layout import Layout
from orchestrator.store.liveness import live_driver
from orchestrator.store.reports import ReportedRow, ReportFollower
from sweeps.manifest.manifest import Manifest
from sweeps.manifest.manifest_file import read_manifest
from sweeps.spec import spec_to_dict
from sweeps.spec.errors import UserError

EVERY_S = 5.0
"""Period of looking for what is new: what ran for less is copied when it is done."""

MAX_LIVE = 64
"""Runs at work that are shown at once; W&B's client keeps a process busy with each."""


class LiveCopies:
    """The provisional copies of the runs at work, by their leases."""

    def __init__(self, layout: Layout, target: Target) -> None:
        """Follow a sweep's reports.

        Raises:
            UserError: when the target cannot show a run before it is done.
        """
        if not isinstance(target, LiveTarget):
            raise UserError("--follow: mlflow shows a run when it is done; choose --to wandb or tensorboard")
        self._target: Any = target
        self._manifest: Manifest = read_manifest(layout.manifest)
        self._follower = ReportFollower(layout)
        self._open: dict[int, tuple[LiveCopy, int]] = {}
        self._run_ids: dict[int, str] = {}

    @property
    def run_ids(self) -> frozenset[str]:
        """Runs that are shown now."""
        return frozenset(self._run_ids[token] for token in self._open)

    def update(self, status: Mapping[str, Any]) -> None:
        """Add what runs at work have reported since, and close what has ended.

        Args:
            status: what the sweep's driver says of itself; nothing when there is none.
        """
        at_work = frozenset(status.get("running_tokens", ()))
        for token in [token for token in self._open if token not in at_work]:
            self._open.pop(token)[0].close()
        for row in self._follower.new_rows():
            if row.token in at_work:
                self._add(row)
        for copy, _ in self._open.values():
            if callable(flush := getattr(copy, "flush", None)):
                flush()

    def close(self) -> None:
        for copy, _ in self._open.values():
            copy.close()
        self._open.clear()

    def _add(self, row: ReportedRow) -> None:
        if row.token not in self._open:
            if len(self._open) >= MAX_LIVE or row.run_id not in self._manifest.index_of:
                return
            self._run_ids[row.token] = row.run_id
            self._target.clean({row.run_id})  # an earlier attempt's
            self._open[row.token] = self._target.follow(self._begun(row)), row.step
        copy, last = self._open[row.token]
        if row.step >= last:  # curves of W&B's go forward only
            copy.log(row.step, {name: float(v) for name, v in row.metrics.items() if is_number(v)})
            self._open[row.token] = copy, row.step

    def _begun(self, row: ReportedRow) -> FinishedRun:
        index = self._manifest.index_of[row.run_id]
        return FinishedRun(
            run_id=row.run_id,
            name=self._manifest.name(index),
            cell=int(self._manifest.cells[index]),
            axes=self._manifest.axis_values(index),
            config=spec_to_dict(self._manifest.spec(index)),
            summary={},
            steps=(),
            finished_at=row.at,
        )


def while_it_runs(
    layout: Layout,
    copies: LiveCopies,
    copy_finished: Callable[[Collection[str]], None],
    sleep: Callable[[float], None],
) -> None:
    """Show what is at work and copy what is done, but for runs that are still shown, until no driver is left;
    then copy the rest.
    """
    try:
        while (driver := live_driver(layout)) is not None:
            copies.update(driver.status or {})
            copy_finished(copies.run_ids)
            sleep(EVERY_S)
    finally:
        copies.close()
    copy_finished(())
