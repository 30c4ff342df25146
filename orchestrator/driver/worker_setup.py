"""What a worker is told when it starts."""

from __future__ import annotations

from orchestrator.driver.options import DriverOptions
from orchestrator.scheduling.events import StartWorker
from orchestrator.store.layout import Layout
from orchestrator.worker.process_env import own_import_path
from orchestrator.worker.protocol import WorkerSetup
from sweeps.manifest.manifest import Manifest


def worker_setup(
    layout: Layout, manifest: Manifest, action: StartWorker, options: DriverOptions
) -> WorkerSetup:
    """The setup of a worker, its paths absolute."""
    root, name = layout.root.resolve(), action.worker
    spool, reports = Layout(root).spool(name), Layout(root).report_file(name)
    if options.node_spools:  # below the folder that each node has for them
        spool, reports = spool.relative_to(root), reports.relative_to(root)
    return WorkerSetup(
        name=name,
        spool=spool,
        reports=reports,
        node_folder=options.node_spools,
        checkpoints=root / "checkpoints",
        log=Layout(root).worker_logs / f"{name}.log",
        warm=manifest.group("trainer", action.runs_like),
        sharing=options.sharing,
        import_path=own_import_path(root),
    )
