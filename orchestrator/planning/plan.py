"""What a sweep would run and cost: its manifest against what its directory already holds. Writes nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.planning.cluster import cluster_of, expected_capacity
from orchestrator.planning.estimates import measured_rates, parts_of
from orchestrator.planning.model_folders import require_usable_models
from orchestrator.scheduling.cluster_model import ClusterModel, SimulationResult
from orchestrator.scheduling.simulate import simulate
from orchestrator.scheduling.workload import workload_of
from orchestrator.store.earlier_sweep import EarlierSweep
from orchestrator.store.frozen import damage_of_frozen, require_launchable
from orchestrator.store.layout import Layout
from orchestrator.store.run_index import DIVERGED, DONE, read_index
from sweeps.compose import compose_sweep
from sweeps.cost.cost import Part, Price, check_budget, mean_run_seconds, price
from sweeps.cost.work_count import SweepWork, count_work
from sweeps.grid.filters import as_text
from sweeps.manifest.build import build_manifest
from sweeps.manifest.code_changes import DIGEST_KEY, changed_code, told_changes
from sweeps.manifest.manifest import Manifest
from sweeps.manifest.manifest_diff import Difference, differences
from sweeps.manifest.manifest_file import read_manifest
from sweeps.manifest.toy_settings import ToySetting, toy_settings
from sweeps.spec import SpecError
from sweeps.spec.text import duration, size

OUTPUTS = Path("outputs")
"""Folder of sweep directories that were not given a place of their own."""

MAX_VALUES_SHOWN = 8
"""Values of an axis that the tree lists before it only counts them."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What would run, why, and at what cost."""

    directory: Path
    manifest: Manifest
    done: int
    left: int
    """Runs on disk that the sweep no longer asks for."""
    drift: Sequence[Difference]
    """Why runs on disk and runs asked for differ."""
    code_changed: list[str] = field(default_factory=list)
    """Files of functions and scripts that have changed since the runs on disk."""
    work: SweepWork
    price: Price
    tokens: int
    """Most completion tokens of their rollouts."""
    num_workers: int
    """Processes assumed to be at work at once."""
    num_gpus: float
    """GPUs assumed for the runs that take any."""
    mended: tuple[str, ...] = ()
    """What is wrong with the models' files and dealt with when they are loaded."""
    settings: tuple[ToySetting, ...] = ()
    """Settings made for the tiny models under which others would be trained or judged."""
    over_budget: str | None = field(default=None)
    simulated: SimulationResult | None = field(default=None)
    """What an imaginary cluster makes of the runs to do, if one was named."""

    @property
    def new(self) -> int:
        """Runs to do."""
        return len(self.manifest) - self.done

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain values."""
        m, naive, shared = self.manifest, self.work.naive, self.work.shared
        return {
            "sweep": m.sweep,
            "dir": str(self.directory),
            "runs": len(m),
            "cells": m.num_cells,
            "new": self.new,
            "done": self.done,
            "left": self.left,
            "duplicates": m.num_duplicates,
            "steps_naive": naive.steps,
            "steps_shared": shared.steps,
            "rollout_batches_naive": naive.rollout_batches,
            "rollout_batches_shared": shared.rollout_batches,
            "gradients_naive": naive.gradients,
            "gradients_shared": shared.gradients,
            "eval_passes_naive": naive.eval_passes + naive.base_eval_passes,
            "eval_passes_shared": shared.eval_passes + shared.base_eval_passes,
            "completion_tokens_max": self.tokens,
            "sharing": bool(m.options.get("sharing")),
            "busy_s": self.price.busy_s,
            "gpu_hours": self.price.gpu_hours,
            "usd": self.price.usd,
            **self._eta(),
            "simulation": self.simulated.to_json() if self.simulated else None,
            "num_workers": self.num_workers,
            "num_gpus": self.num_gpus,
            "measured_runs": dict(self.price.measured),
            "disk_bytes": self.price.disk_bytes,
            "over_budget": self.over_budget,
            "axes": {a.key: list(a.values) for a in m.axes},
            "code_changed": list(self.code_changed),
            "drift": [
                {"key": d.key, "only_old": list(d.only_old), "only_new": list(d.only_new)} for d in self.drift
            ],
            "settings": [setting.to_json() for setting in self.settings],
            "needs": [{"what": n.what, "missing": list(n.missing), "fix": n.fix} for n in m.needs],
            "digest": m.digest,
        }

    def _eta(self) -> dict[str, float]:
        """Time left with its interval; on an imaginary cluster run times are as uncertain as here."""
        scale = self.simulated.makespan_s / self.price.eta_s if self.simulated and self.price.eta_s else 1.0
        return {k: scale * getattr(self.price, k) for k in ("eta_s", "eta_low_s", "eta_high_s")}

    def to_text(self) -> str:
        """Return the plan for people."""
        m, naive, shared, found = self.manifest, self.work.naive, self.work.shared, self.price
        lines = [f"{m.sweep}: {len(m):,} runs in {m.num_cells:,} cells → {self.directory}"]
        lines += [f"  {line}" for line in axes_tree(m)]
        lines.append(f"first     {m.name(0)} ({m.run_ids[0]})")
        lines.append(f"last      {m.name(len(m) - 1)}")
        counts = f"{self.new:,} new · {self.done:,} done · {m.num_duplicates:,} duplicates removed"
        lines.append(
            f"runs      {counts}" + (f" · {self.left:,} on disk no longer asked for" if self.left else "")
        )
        if self.code_changed:
            told = told_changes(self.code_changed, left=self.left, new=self.new)
            lines.append(f"differs   {told}")
        lines += [f"differs   {d}" for d in self.drift if d.key != DIGEST_KEY or not self.code_changed]
        lines += [f"mended    {text}" for text in self.mended]
        if self.new:
            fewer = f" ({naive.steps / shared.steps:.1f}× fewer)" if shared.steps < naive.steps else ""
            lines.append(
                f"steps     {naive.steps:,} alone · {shared.steps:,} shared{fewer} · "
                f"rollouts drawn {shared.rollout_batches:,} times · at most {self.tokens:,} tokens"
            )
            eval_naive, eval_shared = (w.eval_passes + w.base_eval_passes for w in (naive, shared))
            lines.append(f"judging   {eval_naive:,} passes over the benchmark alone · {eval_shared:,} shared")
            on_gpus = found.gpu_hours > 0 and self.num_gpus > 0
            where = f"{self.num_gpus:g} GPUs" if on_gpus else f"{self.num_workers:,} workers"
            gpus = f" · {found.gpu_hours:,.3g} GPU-hours" if found.gpu_hours else ""
            money = "" if found.usd is None else f" · {found.usd:,.2f} USD"
            span = f"{duration(found.eta_low_s)} to {duration(found.eta_high_s)}"
            lines.append(
                f"time      {duration(found.eta_s)} ({span}) on {where}{gpus}{money} · {_basis(found)}"
            )
            if self.simulated:
                s = self.simulated
                lines.append(
                    f"simulated {duration(s.makespan_s)}, {s.overhead:.3f}× the lower bound · "
                    f"{s.utilisation:.1%} of the GPUs in use · {s.node_failures:,} nodes lost, "
                    f"{s.retries:,} attempts repeated"
                    + (f" · gave up with {len(m) - s.runs:,} runs left: {s.stopped}" if s.stopped else "")
                )
            lines.append(f"disk      {size(found.disk_bytes)}")
        lines += [f"needs     {n.what}: missing {', '.join(n.missing)}; {n.fix}" for n in m.needs]
        lines += [f"settings  {setting}" for setting in self.settings]
        if self.over_budget:
            lines.append(f"refused   {self.over_budget}")
        return "\n".join(lines)


def axes_tree(manifest: Manifest) -> list[str]:
    """Return one line per axis: branch, key, number of values and the values."""
    lines = []
    width = max((len(a.key) for a in manifest.axes), default=0)
    for i, axis in enumerate(manifest.axes):
        shown = [as_text(v) for v in axis.values[:MAX_VALUES_SHOWN]]
        if len(axis.values) > len(shown):
            shown = [*shown[:3], "…", as_text(axis.values[-1])]
        branch = "└─" if i == len(manifest.axes) - 1 else "├─"
        lines.append(f"{branch} {axis.key:<{width}} {len(axis.values):>5}  {' '.join(shown)}")
    return lines


def make_plan(
    overrides: Sequence[str],
    directory: Path | None = None,
    like: Path | None = None,
    imagined: ClusterModel | None = None,
) -> Plan:
    """Compose and expand a sweep, compare it with its directory and price what is left.

    Args:
        overrides: Hydra overrides.
        directory: where the sweep lies or would lie; ``outputs/NAME`` unless given.
        like: a sweep directory whose measured seconds to use; otherwise this one's or its neighbours'.
        imagined: a cluster to run it on in virtual time, with the real scheduler.

    Raises:
        SpecError: for a mistake in the overrides or the sweep file.
    """
    composed = compose_sweep(overrides)
    manifest = build_manifest(composed, EarlierSweep)
    mended = require_usable_models(manifest)
    plan = plan_manifest(manifest, directory or OUTPUTS / composed.name, like, imagined)
    return dataclasses.replace(plan, mended=tuple(mended))


def require_budget(manifest: Manifest, directory: Path) -> None:
    """Refuse a launch whose remaining runs cost more than ``budget`` allows; called before anything starts.

    Raises:
        SpecError: naming the limit, the estimate and how to get below it.
    """
    limits = manifest.options.get("budget") or {}
    if any(limit is not None for limit in limits.values()):
        check_budget(plan_manifest(manifest, directory).price, limits)


def plan_manifest(
    manifest: Manifest,
    directory: Path,
    like: Path | None = None,
    imagined: ClusterModel | None = None,
) -> Plan:
    """Compare a manifest with a directory and price what is left, as :func:`make_plan` does."""
    layout = Layout(directory)
    pending, left = np.arange(len(manifest)), 0
    drift: list[Difference] = []
    changed: list[str] = []
    if layout.manifest.exists() or layout.journal_paths():
        require_launchable(layout)
        outcomes = np.asarray(read_index(layout, manifest.run_ids, live=True).book.outcome)
        pending = np.flatnonzero((outcomes != DONE) & (outcomes != DIVERGED))
        is_there = not damage_of_frozen(layout, layout.manifest)
        earlier = read_manifest(layout.manifest) if is_there else manifest
        left = len(set(earlier.run_ids) - set(manifest.run_ids))
        drift = differences(earlier, manifest) if earlier.run_ids != manifest.run_ids else []
        changed = changed_code(earlier, manifest)
    remaining = manifest if len(pending) == len(manifest) else manifest.take(pending)
    cluster, limits = (manifest.options.get(key) or {} for key in ("cluster", "budget"))
    there = expected_capacity(cluster)
    rates = measured_rates(directory, like)
    parts = parts_of(remaining, rates, num_workers=there.slots, num_gpus=there.gpus)
    sharing, usd = bool(manifest.options.get("sharing")), cluster.get("usd_per_gpu_hour")
    found = price(parts, sharing=sharing, usd_per_gpu_hour=usd)
    return Plan(
        directory=directory,
        manifest=manifest,
        done=len(manifest) - len(remaining),
        left=left,
        drift=drift,
        code_changed=changed,
        work=count_work(remaining),
        price=found,
        tokens=_tokens(remaining),
        num_workers=max((part.num_slots * part.world_size for part in parts), default=there.slots),
        num_gpus=there.gpus,
        settings=tuple(toy_settings(manifest)),
        over_budget=_refusal(found, limits),
        simulated=_simulated(remaining, parts, imagined) if imagined and len(remaining) else None,
    )


def _simulated(manifest: Manifest, parts: Sequence[Part], imagined: ClusterModel) -> SimulationResult:
    """Run what is left in virtual time; a run takes what runs of its model take on average."""
    seconds = mean_run_seconds(parts, sharing=bool(manifest.options.get("sharing")))
    codes = manifest.group_codes["model"]
    of_code = {
        code: seconds[manifest.group("model", int(np.flatnonzero(codes == code)[0])).name]
        for code in np.unique(codes).tolist()
    }
    settings = cluster_of(manifest.options).settings
    return simulate(workload_of(manifest), lambda run: of_code[int(codes[run])], imagined, settings)


def _refusal(found: Price, limits: Mapping[str, float | None]) -> str | None:
    try:
        check_budget(found, limits)
    except SpecError as error:
        return str(error)
    return None


def _tokens(manifest: Manifest) -> int:
    """Most completion tokens that the rollouts can have."""
    codes = manifest.group_codes["sampling"]
    total = 0
    for code in np.unique(codes).tolist():
        rows = np.flatnonzero(codes == code)
        sampling = manifest.group("sampling", int(rows[0]))
        total += int(manifest.steps[rows].sum()) * sampling.num_rollouts * sampling.max_new_tokens
    return total


def _basis(found: Price) -> str:
    guessed = [model for model, num in found.measured.items() if num == 0]
    measured = [f"{model} {num:,}" for model, num in found.measured.items() if num]
    words = [f"measured runs: {', '.join(measured)}"] if measured else []
    if guessed:
        words.append(
            f"guessed from its size: {', '.join(guessed)} (no run measured with this engine, sampling and "
            "evaluation)"
        )
    return "; ".join(words)
