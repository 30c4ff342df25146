"""Making a plan: a sweep's manifest against what its directory already holds. Writes nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.planning.cluster import Capacity, cluster_of, expected_capacity, require_capacity
from orchestrator.planning.estimates import measured_rates, parts_of, priced_as
from orchestrator.planning.model_folders import require_usable_models
from orchestrator.planning.packs import most_in_a_pack, planned_packing
from orchestrator.planning.plan import Plan
from orchestrator.planning.prune_question import prune_question, stopped_again
from orchestrator.planning.race_price import race_price
from orchestrator.planning.race_question import RaceQuestion, race_question, wanted_again
from orchestrator.planning.search_price import SearchPrice, drawn_runs, search_price
from orchestrator.planning.search_question import asked_runs, caught_up, continued, search_question
from orchestrator.planning.training_sets import planned_sets
from orchestrator.scheduling.cluster_model import ClusterModel, SimulationResult
from orchestrator.scheduling.simulate import simulate
from orchestrator.scheduling.workload import workload_of
from orchestrator.store.frozen import damage_of_frozen, require_launchable
from orchestrator.store.index_reader import read_index
from orchestrator.store.layout import OUTCOMES, Layout
from orchestrator.store.proposals import read_proposals
from orchestrator.store.run_index import PENDING
from sweeps.compose import compose_sweep
from sweeps.cost.cost import Part, Price, check_budget, mean_run_seconds, price
from sweeps.cost.work_count import count_work
from sweeps.grid.columns import combine
from sweeps.manifest.code_changes import changed_code
from sweeps.manifest.manifest import Manifest
from sweeps.manifest.manifest_diff import Difference, differences
from sweeps.manifest.manifest_file import read_manifest
from sweeps.manifest.toy_settings import toy_settings
from sweeps.spec import SpecError, rounds_of
from sweeps.spec.errors import UserError

OUTPUTS = Path("outputs")
"""Folder of sweep directories that were not given a place of their own."""


def make_plan(
    overrides: Sequence[str],
    directory: Path | None = None,
    like: Path | None = None,
    imagined: ClusterModel | None = None,
    metrics_of: Callable[[Manifest], Mapping[str, Any]] = lambda _: {},
) -> Plan:
    """Compose and expand a sweep, compare it with its directory and price what is left.

    Args:
        overrides: Hydra overrides.
        directory: where the sweep lies or would lie; ``outputs/NAME`` unless given.
        like: a sweep directory whose measured seconds to use; otherwise this one's or its neighbours'.
        imagined: a cluster to run it on in virtual time, with the real scheduler.
        metrics_of: what the trainers' classes say of their metrics.

    Raises:
        SpecError: for a mistake in the overrides or the sweep file.
    """
    composed = compose_sweep(overrides)
    begins = asked_runs(composed)
    manifest, directory = begins.manifest, directory or OUTPUTS / composed.name
    mended = require_usable_models(begins.checked)
    metrics = metrics_of(begins.checked)
    asked = race_question(manifest, metrics)
    search = _search(manifest, directory, metrics)
    plan = _planned(manifest, search, directory, like, imagined, asked)
    race = race_price(manifest, asked, like) if asked else None
    prune = prune_question(manifest, metrics)
    return dataclasses.replace(
        plan, mended=tuple(mended), race=race, search=search, prune=prune, note=begins.note
    )


def _search(manifest: Manifest, directory: Path, metrics: Mapping[str, Any] | None) -> SearchPrice | None:
    if (question := search_question(manifest, metrics)) is None:
        return None
    layout = Layout(directory)
    if layout.manifest.exists() and not damage_of_frozen(layout, layout.manifest):
        continued(read_manifest(layout.manifest), manifest)  # refuses what a launch there would
    return search_price(question, directory)


def _planned(
    manifest: Manifest,
    search: SearchPrice | None,
    directory: Path,
    like: Path | None = None,
    imagined: ClusterModel | None = None,
    asked: RaceQuestion | None = None,
) -> Plan:
    """The plan of a grid's runs, or of runs like those that a search will propose; of those that it has where
    nothing is left to propose.
    """
    layout = Layout(directory)
    if search and not search.runs_most and not damage_of_frozen(layout, layout.manifest):
        manifest, search = caught_up(read_manifest(layout.manifest), read_proposals(layout)), None
    if search is None:
        return plan_manifest(manifest, directory, like, imagined, asked)
    runs = drawn_runs(search, manifest)
    rates_of = like or (directory if search.trials_made else None)
    plan = plan_manifest(runs, directory, rates_of, imagined, compare=False)
    return plan if search.runs_most else dataclasses.replace(plan, done=len(runs))


def require_budget(
    manifest: Manifest,
    directory: Path,
    asked: RaceQuestion | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> None:
    """Refuse a launch whose remaining runs cost more than ``budget`` allows; called before anything starts.

    Raises:
        SpecError: naming the limit, the estimate and how to get below it.
    """
    limits = manifest.options.get("budget") or {}
    if any(limit is not None for limit in limits.values()):
        search = _search(manifest, directory, metrics)
        check_budget(_planned(manifest, search, directory, asked=asked).price, limits)


def plan_manifest(
    manifest: Manifest,
    directory: Path,
    like: Path | None = None,
    imagined: ClusterModel | None = None,
    asked: RaceQuestion | None = None,
    *,
    compare: bool = True,
) -> Plan:
    """Compare a manifest with a directory and price what is left, as :func:`make_plan` does; or, without
    ``compare``, take all of it to be left.
    """
    layout = Layout(directory)
    pending, left = np.arange(len(manifest)), 0
    drift: list[Difference] = []
    counts: Mapping[str, int] = dict.fromkeys(OUTCOMES, 0)
    changed: list[str] = []
    if compare and (layout.manifest.exists() or layout.journal_paths()):
        require_launchable(layout)
        book = read_index(layout, manifest.run_ids, live=True).book
        is_there = not damage_of_frozen(layout, layout.manifest)
        earlier = read_manifest(layout.manifest) if is_there else manifest
        for index in [*wanted_again(asked, manifest, book), *stopped_again(manifest, book)]:
            book.reopen(index)
        counts = {str(word): num for word, num in book.counts().items()}
        pending = np.flatnonzero(np.asarray(book.outcome) == PENDING)
        left = len(set(earlier.run_ids) - set(manifest.run_ids))
        drift = differences(earlier, manifest) if earlier.run_ids != manifest.run_ids else []
        changed = changed_code(earlier, manifest)
    remaining = manifest if len(pending) == len(manifest) else manifest.take(pending)
    priced = _with_models(remaining)
    cluster, limits = (manifest.options.get(key) or {} for key in ("cluster", "budget"))
    there = expected_capacity(cluster)
    rates = measured_rates(directory, like)
    parts = parts_of(remaining, rates, num_workers=there.slots, num_gpus=there.gpus)
    sharing, usd = bool(manifest.options.get("sharing")), cluster.get("usd_per_gpu_hour")
    found = price(parts, sharing=sharing, usd_per_gpu_hour=usd)
    return Plan(
        directory=directory,
        manifest=manifest,
        done=counts["done"] + counts["diverged"],
        failed=counts["failed"],
        quarantined=counts["quarantined"],
        cancelled=counts["cancelled"],
        skipped=counts["skipped"],
        stopped=counts["stopped"],
        left=left,
        drift=drift,
        code_changed=changed,
        work=count_work(priced),
        price=found,
        tokens=_tokens(priced),
        num_workers=max((part.num_slots * part.world_size for part in parts), default=there.slots),
        num_gpus=there.gpus,
        cannot_run="" if imagined else _misfit(remaining, cluster, there),
        settings=tuple(toy_settings(manifest)),
        training_sets=tuple(planned_sets(manifest)),
        packing=planned_packing(remaining),
        most_in_a_pack=most_in_a_pack(remaining),
        over_budget=_refusal(found, limits),
        simulated=_simulated(remaining, parts, imagined) if imagined and len(remaining) else None,
    )


def _with_models(manifest: Manifest) -> Manifest:
    """The runs whose work is rollouts, steps and judged completions."""
    codes = manifest.group_codes["trainer"]
    firsts = {int(code): int(np.flatnonzero(codes == code)[0]) for code in np.unique(codes)}
    counted = [code for code, row in firsts.items() if manifest.group("trainer", row).computes_model]
    return manifest if len(counted) == len(firsts) else manifest.take(np.flatnonzero(np.isin(codes, counted)))


def _simulated(manifest: Manifest, parts: Sequence[Part], imagined: ClusterModel) -> SimulationResult:
    """Run what is left in virtual time; a run takes what runs of its model or trainer take on average.

    Raises:
        SpecError: when nothing tells how long some of them take.
    """
    unknown = sorted({part.model for part in parts if part.is_unknown})
    if unknown:
        raise SpecError(
            f"--simulate: no run of {', '.join(unknown)} has been measured; name a sweep that has some with "
            "--like D"
        )
    seconds = mean_run_seconds(parts, sharing=bool(manifest.options.get("sharing")))
    codes = combine([manifest.group_codes[group] for group in ("model", "trainer")], len(manifest))
    of_code = {
        code: seconds[priced_as(manifest.spec(int(np.flatnonzero(codes == code)[0])))]
        for code in np.unique(codes).tolist()
    }
    settings = cluster_of(manifest.options).settings
    return simulate(workload_of(manifest), lambda run: of_code[int(codes[run])], imagined, settings)


def _misfit(manifest: Manifest, cluster: Mapping[str, Any], there: Capacity) -> str:
    """Why some run would never start here; a queue has been asked for nodes that hold every run."""
    if cluster.get("submit"):
        return ""
    try:
        require_capacity(manifest, there)
    except UserError as error:
        what = str(error).partition(";")[0]
        return f"{what}; say cluster.max_gpus=N for what N GPUs would take, or cluster=slurm"
    return ""


def _refusal(found: Price, limits: Mapping[str, float | None]) -> str | None:
    try:
        check_budget(found, limits)
    except SpecError as error:
        return str(error)
    return None


def _tokens(manifest: Manifest) -> int:
    """Most completion tokens that the rollouts can have."""
    groups = ("sampling", "objective", "curate", "data")
    kinds = combine([*(manifest.group_codes[group] for group in groups), manifest.steps], len(manifest))
    total = 0
    for row, num_runs in zip(*np.unique(kinds, return_index=True, return_counts=True)[1:], strict=True):
        spec = manifest.spec(int(row))
        draws = sum(phase.num_draws for phase in rounds_of(spec))
        total += int(num_runs) * draws * spec.rollouts_at_once * spec.sampling.max_new_tokens
    return total
