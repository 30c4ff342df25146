"""How a run was computed: the facts under which equal bits can be expected."""

from __future__ import annotations

import platform
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from sweeps.spec import RunSpec, phases_of
from trainers.engine.gang import Gang
from trainers.engine.process_state import unusual
from trainers.run_result import NUMERICS

_LIBRARIES = ("torch", "transformers", "deepspeed", "numpy", "tokenizers", "math-verify")

_OPTIONAL = ("vllm",)


def layout_of(spec: RunSpec, gang: Gang) -> dict[str, Any]:
    """Facts stored with a result: engine layout, threads, versions and processor."""
    return {
        "numerics": NUMERICS,
        "world_size": gang.world_size,
        "zero_stage": spec.engine.zero_stage,
        "micro_batch": spec.engine.micro_batch,
        "offload": spec.engine.offload,
        "decoder": spec.engine.decoder,
        **rows_at_once(spec),
        "attention": spec.engine.attention,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if gang.device.type == "cuda" else _processor(),
        "host": platform.node(),
        "process": unusual(),
        "versions": dict(_versions()),
    }


def rows_at_once(spec: RunSpec) -> dict[str, int]:
    """Most rows that a rank decodes at once, by their names in ``engine``; a request of fewer is one part."""
    engine, judged = spec.engine, spec.eval
    return {
        "rollout_rows": engine.rollout_rows
        or max(phase.rollouts_at_once or phase.sampling.num_rollouts for phase in phases_of(spec)),
        "eval_rows": engine.eval_rows or max(judged.batch_items, judged.completions_per_item),
    }


@cache
def _versions() -> dict[str, str]:
    versions = {name: version(name) for name in _LIBRARIES}
    for name in _OPTIONAL:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions | {"python": platform.python_version()}


@cache
def _processor() -> str:
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{platform.machine()} {capability}"
