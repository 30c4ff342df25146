"""Memory that decoding may take beside an engine: asked of the device once a worker and model."""

from __future__ import annotations

import os

import psutil
import torch

from sweeps.spec import ResourcesSpec, RunSpec
from trainers.engine.gang import Gang

DECODING_SHARE = 0.75
"""Part of what is free that decoding may take: the rest is for what allocators round up and leave unused."""

LEAST_BYTES = 2**30
"""What a processor's worker may take of free memory though its part by cores is smaller: runs of small models
are decoded in one piece on any machine.
"""

TO_COME_BYTES = 12
"""Bytes of a trained parameter that an engine without ZeRO allocates at its first step: gradient and moments
in fp32. With ZeRO all but the gradients are there from the start.
"""


def decoding_budget(spec: RunSpec, module: torch.nn.Module, gang: Gang) -> int:
    """Bytes, the same on every rank; measured now, once the engine stands and before it trains."""
    free = free_bytes(spec.resources, gang.device)
    budget = int(DECODING_SHARE * (free - _to_come(spec, module)))
    if gang.device.type != "cuda":
        cores = torch.get_num_threads() / (os.cpu_count() or 1)
        budget = max(int(budget * min(1.0, cores)), min(LEAST_BYTES, int(DECODING_SHARE * free)))
    return max(0, min(gang.gather(budget)))


def free_bytes(resources: ResourcesSpec, device: torch.device) -> int:
    """Bytes that this process could still allocate: what nobody holds, within its own share."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        held = torch.cuda.memory_allocated(device)
        kept = torch.cuda.memory_reserved(device) - held  # torch's own, to be used again
        share = min(1.0, resources.gpus_per_worker or 1.0)
        return min(free + kept, int(total * share) - held)
    free = psutil.virtual_memory().available
    if resources.memory_gib:
        free = min(free, int(resources.memory_gib * 2**30) - psutil.Process().memory_info().rss)
    return max(0, free)


def _to_come(spec: RunSpec, module: torch.nn.Module) -> int:
    trained = [p for p in module.parameters() if p.requires_grad]
    num = sum(getattr(p, "ds_numel", p.numel()) for p in trained)
    if spec.engine.zero_stage == 0:
        return TO_COME_BYTES * num
    split = spec.resources.world_size if spec.engine.zero_stage >= 2 else 1
    return num * trained[0].element_size() // split if trained else 0
