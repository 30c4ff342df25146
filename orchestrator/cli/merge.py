"""The verb that merges kept weights: merge."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.exit_codes import conclude
from orchestrator.cli.output import say
from orchestrator.cli.shared_options import AsJson, Directory, Filters, PoolName, Trust, split_names
from sweeps.spec.errors import UserError


def register(app: typer.Typer) -> None:
    app.command()(merge)


def merge(
    directory: Directory,
    filters: Filters = None,
    method: Annotated[str, typer.Option(help="Some of soup, greedy, wise, lines.")] = "soup,wise",
    by: Annotated[
        str | None,
        typer.Option(help="Axes that tell soups apart; all but the seed unless given.", show_default=False),
    ] = None,
    alphas: Annotated[
        str, typer.Option(help="wise, lines: weights of the tuned model.")
    ] = "0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1",
    held_out: Annotated[
        str | None,
        typer.Option(
            "--held-out", help="greedy: items to choose by, none of the benchmark's.", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--dir", help="Directory of the merges; D-merged unless given.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the merged weights, as Hugging Face folders.")
    ] = False,
    pool: PoolName = None,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Merge the kept weights of a sweep: every merge is a run, judged and tabled like any other."""
    from orchestrator.driver.session import Session
    from orchestrator.planning.cluster import cluster_of
    from orchestrator.store.earlier_sweep import EarlierSweep
    from orchestrator.store.layout import Layout
    from orchestrator.store.opening import open_manifest
    from orchestrator.trust.consent import consent_of
    from orchestrator.trust.gate import is_trusted, permit
    from sweeps.manifest.merged import MergeRequest, merges_of

    started_s = time.monotonic()
    source, asked = open_manifest(directory)
    try:
        weights = [float(word) for word in alphas.split(",")]
    except ValueError:
        raise UserError(f"--alphas {alphas}: must be numbers, such as 0,0.5,1") from None
    request = MergeRequest(
        sweep=directory,
        methods=method.split(","),
        filters=filters or [],
        by=split_names(by),
        alphas=weights,
        held_out=held_out,
        keep=keep,
    )
    manifest = merges_of(request, EarlierSweep)
    target = out or directory.with_name(f"{directory.resolve().name}-merged")
    cluster = cluster_of(manifest.options, pool=pool)
    consent = consent_of(trust=trust or is_trusted(source, asked), launched=True)
    permission = permit(Layout(target), manifest, consent, address=cluster.address)
    with Session(Layout(target), permission) as session:
        session.freeze(manifest, pool=cluster.pool, address=cluster.address, about=f"merges of {directory}")
        if not as_json:
            say(f"{len(manifest)} merges → {target}")
        summary = session.run(manifest, cluster, session.read(manifest), quiet=as_json)
    conclude(target, summary, started_s, as_json)
