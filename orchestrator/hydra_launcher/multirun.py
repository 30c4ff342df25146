"""A multirun: its jobs as runs of a sweep directory, launched or resumed."""

from __future__ import annotations

import atexit
import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, configure_log, filter_overrides
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from orchestrator.driver.session import Session
from orchestrator.hydra_launcher.application import Application, save
from orchestrator.hydra_launcher.configurations import Configurations
from orchestrator.hydra_launcher.console import WorkerOutput
from orchestrator.hydra_launcher.jobs import TARGET, Job, manifest_of
from orchestrator.hydra_launcher.loader import RememberingLoader
from orchestrator.hydra_launcher.returns import job_return
from orchestrator.planning.cluster import Cluster, cluster_of, lasting_pool
from orchestrator.pools.lasting import LastingPool
from orchestrator.store.frozen import damage_of_frozen, require_launchable
from orchestrator.store.layout import OUTCOMES, Layout
from orchestrator.store.spool import LineReader
from orchestrator.trust.consent import Consent, consent_of
from orchestrator.trust.gate import Permission, permit
from orchestrator.trust.trusted import Need
from sweeps.manifest.manifest import Manifest
from sweeps.manifest.manifest_file import read_manifest
from sweeps.spec import ResourcesSpec
from sweeps.spec.errors import EXIT_INTERRUPTED, SpecError, UserError, shown
from sweeps.spec.metrics import metric_info
from sweeps.spec.prune_rules import prune_of

WITHOUT_RESULT = ("failed", "quarantined", "cancelled")
"""Outcomes that asking again gives another chance, with fresh budgets."""

HOLD_S = 5.0
"""Longest the first job holds the others back: an application that cannot even start fails sooner, and the
jobs of a multirun are often few and long.
"""

log = logging.getLogger(__name__)


class Multirun:
    """What :class:`hydra_plugins.emsweep_launcher.EmsweepLauncher` does."""

    def __init__(
        self, options: Mapping[str, Any], context: HydraContext, task: TaskFunction, config: DictConfig
    ) -> None:
        """Begin a multirun.

        Args:
            options: those of ``EmsweepLauncherConf``.
            context: Hydra's loader and callbacks; whoever composes jobs with them, such as a sweeper, gets
                them without composing each.
            task: the function below ``@hydra.main``.
            config: the multirun's configuration.
        """
        self._options = options
        self._task, self._config = task, config
        loader = context.config_loader
        self._context = HydraContext(config_loader=loader, callbacks=context.callbacks)
        self._configurations = Configurations(loader, config)
        context.config_loader = RememberingLoader(loader, config, self._configurations)
        self._jobs: list[Job] = []
        self._pool: LastingPool | None = None
        retries = {} if options["retries"] is None else {"error": options["retries"]}
        names = ("pool", "address", "num_workers", "threads_per_worker")
        self._cluster_options = {name: options[name] for name in names}
        self._cluster_options |= {"retries": retries, "canary_hold_s": HOLD_S}
        self._prune, self._metrics = pruning_of(options.get("prune"))

    def launch(self, job_overrides: Sequence[Sequence[str]], first_number: int) -> list[JobReturn]:
        """Run jobs; those of earlier calls of this multirun stay part of its directory.

        Raises:
            SystemExit: with status 130, when interrupted.
            UserError: when the directory is not ours, or the jobs do not fit the machine.
        """
        configure_log(self._config.hydra.hydra_logging, self._config.hydra.verbose)
        Path(str(self._config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        jobs = [self._job(overrides) for overrides in job_overrides]
        before = len(self._jobs)
        self._jobs += jobs
        manifest, run_of = self._manifest()
        layout = Layout(Path(self._options["directory"]).absolute())
        _require_ours(layout)
        words: dict[str, tuple[int, tuple[str, ...]]] = {}
        for number, (job, run) in enumerate(zip(self._jobs, run_of, strict=True), first_number - before):
            words.setdefault(manifest.run_ids[run], (number, job.overrides))
        cluster = cluster_of({"cluster": self._cluster_options})
        application = Application(
            task=self._task, context=self._context, config=self._config, words=words
        ).pickled()
        permission = _permission(layout, manifest, application, cluster.address)
        with Session(layout, permission) as session:
            session.freeze(manifest, pool=cluster.pool, address=cluster.address, metrics=self._metrics)
            reading = session.read(manifest)
            done = reading.book.num_committed
            log.info("%d jobs, %d of them done already, in %s", len(manifest), done, layout.root)
            save(application, layout.root)
            for number, (job, run) in enumerate(zip(jobs, run_of[before:], strict=True), first_number):
                ready = " (has its result already)" if reading.book.committed(run) else ""
                log.info("\t#%d : %s%s", number, " ".join(filter_overrides(job.overrides)), ready)
            asked = set(run_of[before:])
            again = [i for i in sorted(asked) if OUTCOMES[reading.book.outcome[i]] in WITHOUT_RESULT]
            with WorkerOutput(layout.worker_logs):
                pool = partial(self._lasting_pool, manifest, cluster) if cluster.pool == "local" else None
                summary = session.run(manifest, cluster, reading, only=asked, reopen=again, pool=pool)
            book = session.read(manifest).book
        if summary.interrupted:
            log.warning("%s; the same command again goes on", summary.reason or "interrupted")
            raise SystemExit(EXIT_INTERRUPTED)
        lines = LineReader(layout.spools)
        try:
            return [
                job_return(job, run, book, layout, lines)
                for job, run in zip(jobs, run_of[before:], strict=True)
            ]
        finally:
            lines.close()

    def _lasting_pool(self, manifest: Manifest, cluster: Cluster) -> LastingPool:
        """The workers of this multirun: a sweeper that comes batch by batch finds them warm."""
        if self._pool is None:
            self._pool = lasting_pool(manifest, cluster)
            atexit.register(self._pool.end)
        return self._pool

    def close(self) -> None:
        """End the workers, which otherwise wait for the next batch until this process ends."""
        if self._pool is not None:
            atexit.unregister(self._pool.end)
            self._pool.end()
            self._pool = None

    def _job(self, overrides: Sequence[str]) -> Job:
        found = self._configurations
        words, content = found.words(overrides), found.content(overrides)
        return Job(overrides=tuple(overrides), words=words, content=content)

    def _manifest(self) -> tuple[Manifest, list[int]]:
        names = ("gpus_per_worker", "cpus_per_worker", "memory_gib", "timeout_s")
        name = str(self._config.hydra.job.name)
        return manifest_of(
            self._jobs,
            name=re.sub(r"[^\w.-]", "-", name),
            task=f"{name}.{getattr(self._task, '__qualname__', 'task')}",
            resources=ResourcesSpec(**{n: self._options[n] for n in names}),
            options={"cluster": self._cluster_options, **({"prune": self._prune} if self._prune else {})},
        )


def pruning_of(written: Any) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The early stopping that ``hydra.launcher.prune`` asks for, and what is known of its metric.

    Raises:
        SpecError: for anything but a mapping of a pruner's keys, with a metric and its better end.
    """
    if written is None:
        return {}, None
    if OmegaConf.is_config(written):
        written = OmegaConf.to_container(written, resolve=True)
    if not isinstance(written, Mapping) or not {"kind", "metric", "direction"} <= set(written):
        raise SpecError(
            f"hydra.launcher.prune={shown(written)}: give the pruner, the metric that jobs report and its "
            "better end, as {kind: asha, metric: loss, direction: min}"
        )
    options = {key: value for key, value in written.items() if key != "direction"}
    prune_of({"prune": options})
    metric = str(options["metric"])
    said = {metric: {"direction": written["direction"]}}
    metric_info(metric, said[metric])
    return options, said


def _permission(layout: Layout, manifest: Manifest, application: bytes, address: str | None) -> Permission:
    """Leave to run this application: whoever started it runs its code already, and reads only what is his."""
    consent = Consent(everything=True, launched=True)
    pickle = Need("pickle", hashlib.sha256(application).hexdigest())
    return permit(layout, manifest, consent, address=address, further=[pickle])


def _require_ours(layout: Layout) -> None:
    """Refuse a directory that holds something else, or pickled results of somebody else's jobs."""
    if not layout.root.exists() or not any(layout.root.iterdir()):
        return
    require_launchable(layout)
    if damage_of_frozen(layout, layout.manifest):
        return
    earlier = read_manifest(layout.manifest)
    if len(earlier) and earlier.group("trainer", 0).target != TARGET:
        raise UserError(
            f"hydra.launcher.directory={str(layout.root)!r}: holds the sweep {earlier.sweep!r}, which is not "
            "of a Hydra application; give another directory"
        )
    permit(layout, earlier, consent_of())
