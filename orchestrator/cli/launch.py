"""Verbs that run a sweep: launch, resume, rerun."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.exit_codes import conclude
from orchestrator.cli.output import say
from orchestrator.cli.shared_options import (
    Address,
    AllowTarget,
    AsJson,
    ConfigDir,
    Directory,
    Filters,
    MetricsPort,
    Overrides,
    PoolName,
    SweepFolder,
    Trust,
    Until,
    deadline_of,
    with_config_dir,
)
from orchestrator.cli.submit import DryRun, Follow, goes_to_queue, hand_over, print_job, require_for_queue
from sweeps.spec.errors import UserError

if TYPE_CHECKING:
    from orchestrator.planning.cluster import Cluster
    from orchestrator.planning.search_question import Asked
    from orchestrator.store.layout import Layout
    from orchestrator.store.run_index import RunIndex
    from orchestrator.trust.gate import Permission
    from sweeps.manifest.manifest import Manifest

CONFIRM_RUNS = 1_000
"""A launch of more runs asks first, on a terminal."""


def register(app: typer.Typer) -> None:
    for verb in (launch, resume, rerun):
        app.command()(verb)


def launch(
    overrides: Overrides = None,
    directory: SweepFolder = None,
    pool: PoolName = None,
    address: Address = None,
    until: Until = None,
    config_dir: ConfigDir = None,
    allow_target: AllowTarget = None,
    trust: Trust = False,
    dry_run: DryRun = False,
    follow: Follow = False,
    metrics_port: MetricsPort = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run a sweep; in a directory that holds it already, run only what is missing."""
    from orchestrator.driver.session import Session
    from orchestrator.inspect.metrics import serving_metrics
    from orchestrator.planning.cluster import cluster_of, pool_factory
    from orchestrator.planning.make_plan import OUTPUTS, require_budget
    from orchestrator.planning.model_folders import require_usable_models
    from orchestrator.planning.prune_question import prune_question
    from orchestrator.planning.race_question import race_question
    from orchestrator.planning.search_price import search_price
    from orchestrator.planning.search_question import continued, search_question
    from orchestrator.store.layout import Layout
    from orchestrator.submit import request_of
    from orchestrator.trust.consent import consent_of
    from orchestrator.trust.gate import permit, require_covered
    from orchestrator.trust.job_lines import require_own_lines
    from orchestrator.trust.needs import code_of
    from orchestrator.trust.targets import metrics_of_classes, require_targets
    from sweeps.manifest.code_changes import changed_code, told_changes
    from sweeps.manifest.hf_cache import has_network
    from sweeps.manifest.hub_commits import pin_commits
    from sweeps.manifest.resolve import check_needs
    from sweeps.manifest.toy_settings import toy_settings

    started_s = time.monotonic()
    words = with_config_dir(overrides, config_dir)
    asked, about = _asked(words)
    manifest = asked.manifest
    if asked.note:
        say(asked.note)
    layout = Layout(directory or OUTPUTS / manifest.sweep)
    consent = consent_of(
        overrides or (), allowed=allow_target or (), address=address, trust=trust, launched=True
    )
    if goes_to_queue(manifest, dry_run):
        require_covered(asked.checked, consent, layout.root)
        require_targets(asked.checked, layout.root)
        require_own_lines(manifest.options, words, trust=trust)
        flags = [flag for package in allow_target or () for flag in ("--allow-target", package)]
        flags += ["--trust"] if trust else []
        given = {"--pool": pool, "--address": address, "--until": until, "--metrics-port": metrics_port}
        require_for_queue(given)
        cluster_of(manifest.options)  # refused here, not once the job has waited
        request = request_of(manifest, words, directory=str(layout.root), flags=flags)
        if dry_run:
            print_job(manifest, request, as_json=as_json)
            return
        _require_free_or_sweep(layout.root)
        manifest = continued(_earlier(layout), manifest)
        permission = permit(layout, manifest, consent, further=list(code_of(asked.checked)))
        metrics = metrics_of_classes(asked.checked, layout.root)
        race_question(manifest, metrics)
        search = search_question(manifest, metrics)
        prune_question(manifest, metrics)
        hand_over(
            manifest,
            request,
            layout,
            permission,
            about=about,
            metrics=metrics,
            to_come=search_price(search, layout.root).runs_most if search else 0,
            follow=follow,
            as_json=as_json,
        )
        return
    check_needs(manifest.needs, has_network)
    _require_free_or_sweep(layout.root)
    earlier = _earlier(layout)
    manifest = pin_commits(continued(earlier, manifest), earlier)
    changed = changed_code(earlier, manifest) if earlier else []
    del earlier
    cluster = cluster_of(manifest.options, pool=pool, address=address)
    permission = permit(
        layout,
        manifest,
        consent,
        address=cluster.address,
        node_spools=cluster.node_spools,
        further=list(code_of(asked.checked)),
    )
    require_targets(asked.checked, layout.root)
    metrics = metrics_of_classes(asked.checked, layout.root)
    race = race_question(manifest, metrics)
    search = search_question(manifest, metrics)
    prune_question(manifest, metrics)
    for setting in toy_settings(manifest):
        say(f"made for the tiny models: {setting}")
    for text in require_usable_models(asked.checked, run_code=True):
        say(f"mended: {text}")
    require_budget(manifest, layout.root, race, metrics)
    pool_factory(manifest, cluster)
    _confirm(len(manifest) if search is None else search_price(search, layout.root).runs_most, yes)
    deadline = deadline_of(until)
    with Session(layout, permission) as session, serving_metrics(layout, metrics_port):
        found = session.freeze(
            manifest, pool=cluster.pool, address=cluster.address, about=about, metrics=metrics
        )
        if not as_json and changed:
            say(told_changes(changed, left=found.left, new=found.new))
        elif not as_json and (found.left or 0 < found.new < len(manifest)):
            say(f"{found.new} runs are new; {found.left} left the grid, their results stay in the spools")
        reading = session.read(manifest)
        summary = session.run(manifest, cluster, reading, quiet=as_json, until=deadline)
    conclude(layout.root, summary, started_s, as_json)


def resume(
    directory: Directory,
    pool: PoolName = None,
    address: Address = None,
    until: Until = None,
    allow_target: AllowTarget = None,
    trust: Trust = False,
    metrics_port: MetricsPort = None,
    as_json: AsJson = False,
) -> None:
    """Finish a sweep that was interrupted; runs that failed stay as they are (see rerun)."""
    from orchestrator.driver.session import Session
    from orchestrator.inspect.metrics import serving_metrics
    from orchestrator.store.opening import open_manifest

    started_s = time.monotonic()
    layout, manifest = open_manifest(directory)
    cluster = _stored_cluster(directory, manifest, pool, address)
    deadline = deadline_of(until)
    permission = _permitted(layout, manifest, cluster, allow_target, address, trust)
    with Session(layout, permission) as session, serving_metrics(layout, metrics_port):
        manifest = session.caught_up(manifest)
        reading = session.read(manifest)
        summary = session.run(manifest, cluster, reading, quiet=as_json, until=deadline)
    conclude(directory, summary, started_s, as_json)


def rerun(
    directory: Directory,
    filters: Filters = None,
    failed: Annotated[bool, typer.Option("--failed", help="Runs that failed or were quarantined.")] = False,
    incomplete: Annotated[bool, typer.Option("--incomplete", help="Every run without a result.")] = False,
    pool: PoolName = None,
    address: Address = None,
    until: Until = None,
    allow_target: AllowTarget = None,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Give runs without a result another chance, with fresh budgets. A committed result is never repeated."""
    from orchestrator.driver.session import Session
    from orchestrator.store.matching import matching
    from orchestrator.store.opening import open_manifest
    from orchestrator.trust.code_files import require_same_code

    started_s = time.monotonic()
    if not (failed or incomplete or filters):
        raise UserError("rerun: say which runs: --failed, --incomplete or axis=value")
    layout, manifest = open_manifest(directory)
    cluster = _stored_cluster(directory, manifest, pool, address)
    deadline = deadline_of(until)
    permission = _permitted(layout, manifest, cluster, allow_target, address, trust)
    with Session(layout, permission) as session:
        manifest = session.caught_up(manifest)
        reading = session.read(manifest)
        failed_only = failed and not incomplete
        chosen = matching(manifest, reading.book, filters or [])
        again = {i for i in chosen if _is_open(reading.book, i, failed_only=failed_only)}
        require_same_code(manifest, layout.root)
        if not as_json:
            say(f"{len(again)} of {len(manifest)} runs get another chance")
        summary = session.run(
            manifest, cluster, reading, quiet=as_json, only=again, reopen=again, until=deadline
        )
    conclude(directory, summary, started_s, as_json)


def _asked(overrides: Sequence[str]) -> tuple[Asked, str]:
    """The runs that the words ask for, and the question they answer; what it took to compose them goes."""
    from orchestrator.planning.search_question import asked_runs
    from sweeps.compose import compose_sweep

    composed = compose_sweep(overrides)
    return asked_runs(composed), composed.about


def _earlier(layout: Layout) -> Manifest | None:
    """The runs that a directory holds, those of a search whole; ``None`` without a list that is intact."""
    from orchestrator.planning.search_question import caught_up
    from orchestrator.store.frozen import damage_of_frozen
    from orchestrator.store.proposals import read_proposals
    from sweeps.manifest.manifest import SPACE
    from sweeps.manifest.manifest_file import read_manifest

    if not layout.manifest.exists() or damage_of_frozen(layout, layout.manifest):
        return None
    found = read_manifest(layout.manifest)
    return caught_up(found, read_proposals(layout)) if SPACE in found.options else found


def _stored_cluster(directory: Path, manifest: Manifest, pool: str | None, address: str | None) -> Cluster:
    """The cluster that the sweep was launched with; the command line wins.

    Raises:
        UserError: for a sweep that jobs of a queue run, unless it is to be ended here.
    """
    from orchestrator.driver.session import stored_pool
    from orchestrator.planning.cluster import cluster_of
    from orchestrator.store.job_note import submitted_by
    from orchestrator.store.layout import Layout

    stored, stored_address = stored_pool(Layout(directory))
    submitted = submitted_by(Layout(directory))
    if submitted is not None and pool is None and address is None:
        raise UserError(
            f"directory {str(directory)!r}: is run by jobs of a queue; submit it again with: "
            f"{submitted or 'the launch that submitted it'}; or take this machine with --pool local"
        )
    return cluster_of(
        manifest.options,
        pool=pool or stored,
        address=address or (stored_address if pool in (None, stored) else None),
    )


def _permitted(
    layout: Layout,
    manifest: Manifest,
    cluster: Cluster,
    allow_target: list[str] | None,
    address: str | None,
    trust: bool,
) -> Permission:
    """Leave to run what the directory holds: its own words are no consent of this user's."""
    from orchestrator.planning.search_question import checked_space
    from orchestrator.trust.consent import consent_of
    from orchestrator.trust.gate import permit
    from orchestrator.trust.needs import code_of

    consent = consent_of(allowed=allow_target or (), address=address, trust=trust)
    return permit(
        layout,
        manifest,
        consent,
        address=cluster.address,
        node_spools=cluster.node_spools,
        further=list(code_of(checked_space(manifest))),
    )


def _require_free_or_sweep(root: Path) -> None:
    """Refuse a directory that holds something else."""
    if root.exists() and not root.is_dir():
        raise UserError(f"--dir {root}: is a file; give a directory")
    from orchestrator.store.frozen import require_launchable
    from orchestrator.store.layout import Layout

    if root.is_dir() and not Layout(root).is_blank:
        require_launchable(Layout(root))


def _confirm(num_runs: int, yes: bool) -> None:
    if yes or num_runs <= CONFIRM_RUNS or not sys.stdin.isatty():
        return
    typer.confirm(f"Launch {num_runs:,} runs?", abort=True, err=True)


def _is_open(book: RunIndex, index: int, *, failed_only: bool) -> bool:
    from orchestrator.store.layout import OUTCOMES

    outcome = OUTCOMES[book.outcome[index]]
    if failed_only:
        return outcome in ("failed", "quarantined")
    return outcome in ("pending", "failed", "quarantined", "cancelled", "stopped")
