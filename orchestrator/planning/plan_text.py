"""A plan as people read it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from orchestrator.planning.packs import packs_line
from sweeps.cost.cost import Price
from sweeps.grid.filters import as_text
from sweeps.manifest.code_changes import DIGEST_KEY, told_changes
from sweeps.manifest.manifest import Manifest
from sweeps.spec.command_words import shown_command
from sweeps.spec.text import counted, duration, size, span

if TYPE_CHECKING:
    from orchestrator.planning.plan import Plan

MAX_SETS_SHOWN = 8
"""Training sets that the plan lists; --json has all."""

MAX_VALUES_SHOWN = 8
"""Values of an axis that the tree lists before it only counts them."""


def plan_text(plan: Plan) -> str:
    m = plan.manifest
    lines = [f"{m.sweep}: {len(m):,} runs in {m.num_cells:,} cells → {plan.directory}"]
    lines += [f"  {line}" for line in axes_tree(m)]
    lines.append(f"first     {m.name(0)} ({m.run_ids[0]})")
    lines.append(f"last      {m.name(len(m) - 1)}")
    lines += [f"data      {each}" for each in plan.training_sets[:MAX_SETS_SHOWN]]
    if (more := len(plan.training_sets) - MAX_SETS_SHOWN) > 0:
        lines.append(f"data      and {more:,} more")
    if m.group("trainer", 0).command:
        lines.append(f"command   {shown_command(m.spec(0), m.run_ids[0])}")
    lines.append(f"runs      {_counts(plan)}")
    if plan.code_changed:
        lines.append(f"differs   {told_changes(plan.code_changed, left=plan.left, new=plan.new)}")
    lines += [f"differs   {d}" for d in plan.drift if d.key != DIGEST_KEY or not plan.code_changed]
    lines += [f"mended    {text}" for text in plan.mended]
    if plan.race:
        lines.append(f"race      {plan.race}")
    if plan.search:
        lines.append(f"search    {plan.search}")
    if plan.prune:
        lines.append(f"prune     {plan.prune}")
    if plan.note:
        lines.append(f"search    {plan.note}")
    if plan.new:
        lines += [*_work(plan), f"time      {_time(plan)}", *_simulated(plan)]
        lines.append(f"disk      {size(plan.price.disk_bytes)}")
    lines += [f"needs     {n.what}: missing {', '.join(n.missing)}; {n.fix}" for n in m.needs]
    lines += [f"settings  {setting}" for setting in plan.settings]
    if plan.over_budget:
        lines.append(f"refused   {plan.over_budget}")
    return "\n".join(lines)


def _counts(plan: Plan) -> str:
    if plan.search:
        return f"{plan.search.runs_most:,} to do at most · {counted(plan.search.trials_made, 'trial')} made"
    counts = [f"{plan.new:,} new", f"{plan.done:,} done"]
    without = {
        word: getattr(plan, word) for word in ("failed", "quarantined", "cancelled", "skipped", "stopped")
    }
    counts += [f"{num:,} {word}" for word, num in without.items() if num]
    counts.append(f"{plan.manifest.num_duplicates:,} duplicates removed")
    if plan.left:
        counts.append(f"{plan.left:,} on disk no longer asked for")
    if plan.failed or plan.quarantined:
        counts.append(f"again, once mended: emsweep rerun {shlex.quote(str(plan.directory))} --failed")
    return " · ".join(counts)


def _work(plan: Plan) -> list[str]:
    """Lines about steps and judged completions, where runs have any."""
    naive, shared = plan.work.naive, plan.work.shared
    lines = []
    if naive.steps:
        fewer = f" ({naive.steps / shared.steps:.1f}× fewer)" if shared.steps < naive.steps else ""
        lines.append(
            f"steps     {naive.steps:,} alone · {shared.steps:,} shared{fewer} · "
            f"rollouts drawn {shared.rollout_batches:,} times · at most {plan.tokens:,} tokens"
        )
    if packs := packs_line(plan.packing, plan.most_in_a_pack):
        lines.append(f"packs     {packs}")
    alone, together = (w.eval_passes + w.base_eval_passes for w in (naive, shared))
    if alone:
        lines.append(f"judging   {alone:,} passes over the benchmark alone · {together:,} shared")
    return lines


def _time(plan: Plan) -> str:
    found = plan.price
    on_gpus = (found.gpu_hours > 0 or found.unknown_gpus) and plan.num_gpus > 0
    where = f"{plan.num_gpus:g} GPUs" if on_gpus else f"{plan.num_workers:,} workers"
    if found.unknown:
        return (
            f"unknown, on {where}: no run of {', '.join(found.unknown)} has been measured; "
            "--like D names a sweep that has some"
        )
    gpus = f" · {found.gpu_hours:,.3g} GPU-hours" if found.gpu_hours else ""
    money = "" if found.usd is None else f" · {found.usd:,.2f} USD"
    if plan.cannot_run:
        return f"cannot run here: {plan.cannot_run}{gpus}{money} · {_basis(found)}"
    took = span(found.eta_s, found.eta_low_s, found.eta_high_s)
    return f"{took} on {where}{gpus}{money} · {_basis(found)}"


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


def _simulated(plan: Plan) -> list[str]:
    s = plan.simulated
    if s is None:
        return []
    stopped = f" · gave up with {len(plan.manifest) - s.runs:,} runs left: {s.stopped}" if s.stopped else ""
    return [
        f"simulated {duration(s.makespan_s)}, {s.overhead:.3f}× the lower bound · "
        f"{s.utilisation:.1%} of the GPUs in use · {s.node_failures:,} nodes lost, "
        f"{s.retries:,} attempts repeated{stopped}"
    ]


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
