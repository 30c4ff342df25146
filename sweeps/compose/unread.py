"""Words and keys that would change nothing: refused, for whoever wrote them meant something.

Hydra has many of its own (where a job writes, who launches it); here the sweep directory, the scheduler and
the ``cluster`` options do that work.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import Override

from sweeps.compose.session import SEARCH_PATH
from sweeps.grid.resolve_configs import references
from sweeps.grid.sweep_file import SWEEP_KEYS
from sweeps.spec import GROUPS, SCALARS, SpecError, nearest
from sweeps.spec.errors import shown
from sweeps.spec.prune_rules import PruneSpec
from sweeps.spec.sampler_rules import SamplerSpec
from sweeps.spec.search_rules import RaceSpec

CLUSTER_KEYS = frozenset(
    {
        "address",
        "batch_s",
        "breaker_runs",
        "canary_hold_s",
        "environment",
        "grace_s",
        "job",
        "lease_s",
        "max_gpus",
        "memory_watermark_gib",
        "give_back_s",
        "node_spools",
        "grows_to",
        "notice_s",
        "num_workers",
        "pool",
        "retries",
        "submit",
        "threads_per_worker",
        "usd_per_gpu_hour",
        "watchdog_s",
    }
)
"""Keys of the ``cluster`` options."""

OPTIONS: Mapping[str, frozenset[str]] = {
    "budget": frozenset({"gpu_hours", "disk_gib", "usd"}),
    "cluster": CLUSTER_KEYS,
    "cluster.retries": frozenset({"infrastructure", "oom", "timeout", "error"}),
    "search": frozenset(
        {"kind", *(f.name for spec in (RaceSpec, SamplerSpec) for f in dataclasses.fields(spec))}
    ),
    "prune": frozenset({"kind", *(f.name for f in dataclasses.fields(PruneSpec))}),
}
"""Mappings beside a run's groups, and the keys of each that are read."""

ASIDE = ("_", "x-")
"""How keys begin that only hold a YAML anchor."""

HYDRA_FIXES = (
    ("hydra.sweep.dir", "name the directory with --dir"),
    ("hydra.run.dir", "name the directory with --dir"),
    ("hydra.output_subdir", "leave it out, or name the directory with --dir"),
    ("hydra.job.name", "use sweep.name="),
    ("hydra/launcher", "say where runs execute with cluster="),
    ("hydra.launcher", "say where runs execute with cluster="),
    ("hydra/sweeper", "write the axes as words, key=value1,value2, or in a sweep file"),
    ("hydra.sweeper", "write the axes as words, key=value1,value2, or in a sweep file"),
    ("hydra.mode", "leave it out: several values of a key make a sweep"),
    ("hydra.job.chdir", "leave it out: runs keep the working folder"),
    ("hydra.job.env_set", "use cluster.environment"),
    ("hydra/job_logging", "see what runs wrote with emsweep log"),
    ("hydra.job_logging", "see what runs wrote with emsweep log"),
    ("hydra.verbose", "see what runs wrote with emsweep log"),
)
"""Hydra's own words, by how they begin, and what to do instead."""


def refuse_hydra_words(words: Iterable[Override]) -> None:
    """Refuse Hydra's own settings, but for the search path.

    Raises:
        SpecError: with what to do instead.
    """
    for word in words:
        key = word.key_or_group
        if key == "hydra" or word.is_hydra_override():
            raise SpecError(f"{shown(word.input_line)}: changes nothing here; {_hydra_fix(key)}")


def refuse_hydra_node(node: Mapping[str, Any], groups: Iterable[str], source: str) -> None:
    """Refuse Hydra's own settings in a sweep file: below ``hydra:``, or as a group of its ``defaults``."""
    inner = node.get("hydra")
    keys = [f"hydra.{key}" for key in _flat(inner)] if isinstance(inner, Mapping) else []
    for key in [*(keys or (["hydra"] if "hydra" in node else [])), *groups]:
        if key.startswith("hydra") and not key.startswith(SEARCH_PATH):
            raise SpecError(f"{source}: {key} changes nothing here; {_hydra_fix(key)}")


def refuse_unread_keys(
    config: Mapping[str, Any], groups: Iterable[str], words: Sequence[Override], values: Sequence[Any]
) -> None:
    """Refuse keys that nothing reads: neither part of a run, nor an option, nor referred to.

    Args:
        config: the composed configuration, references as text.
        groups: names of option groups, the user's own among them.
        words: those of the command line; a parameter that they add to the sweep must be referred to.
        values: what the words give, some of which the configuration does not hold.

    Raises:
        SpecError: naming the key and the nearest that is read.
    """
    referred = [name.strip(".") for name in references([config, *values])]
    known = [*GROUPS, *SCALARS, "sweep", "sharing", *(key for key in OPTIONS if "." not in key), *groups]
    for key in map(str, config):
        if key not in known and not key.startswith(ASIDE):
            _require_referred(key, referred, known)
    for path, inside in OPTIONS.items():
        node: Any = config
        for part in path.split("."):
            node = node.get(part) or {}
            if not isinstance(node, Mapping):
                raise SpecError(f"{path}={shown(node)}: must be a mapping, such as {{{min(inside)}: …}}")
        for key in (key for key in node if key not in inside):
            _require_referred(f"{path}.{key}", referred, [f"{path}.{name}" for name in inside])
    for word in words:
        if word.is_add() and word.key_or_group.startswith("sweep."):
            _require_referred(word.key_or_group, referred, [f"sweep.{key}" for key in SWEEP_KEYS])


def _require_referred(key: str, referred: Sequence[str], known: Sequence[str]) -> None:
    if not any(name == key or name.startswith(f"{key}.") or key.endswith(f".{name}") for name in referred):
        near = nearest(key, [name for name in known if name != key])
        raise SpecError(f"{key}: nothing reads it{near}; leave it out, or refer to it as ${{{key}}}")


def _hydra_fix(key: str) -> str:
    return next((fix for start, fix in HYDRA_FIXES if key.startswith(start)), "leave it out")


def _flat(node: Mapping[Any, Any]) -> list[str]:
    return [
        f"{key}.{rest}" if rest else str(key)
        for key, inner in node.items()
        for rest in (_flat(inner) if isinstance(inner, Mapping) and inner else [""])
    ]
