"""What a plan says of packs: how many runs are trained together, and why others are not."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np

from sweeps.manifest.data_files import local_path
from sweeps.manifest.hf_cache import snapshot
from sweeps.manifest.manifest import Manifest
from sweeps.sharing.packs import PACKED_FAMILIES, Packing, packing_of
from sweeps.spec import ModelSpec


def planned_packing(manifest: Manifest) -> Packing:
    """Which runs would be packed; models that lie here are looked at for layers that packs know."""
    packing = packing_of(manifest, _unknown_models(manifest))
    if not packing.num_packed or manifest.options.get("sharing"):
        return packing
    alone = {"sharing=off (a pack of one)": packing.num_packed}
    return Packing(pack_of=np.full(len(manifest), -1), refused={**packing.refused, **alone})


def packs_line(packing: Packing, most: int) -> str:
    """The plan's line about packs, for people; empty where no run asks for one."""
    parts = [f"{packing.num_packed:,} runs in packs of up to {most}"] if packing.num_packed else []
    if packing.refused:
        why = ", ".join(f"{num:,} for {reason}" for reason, num in packing.refused.items())
        parts.append(f"trained by themselves: {why}")
    return " · ".join(parts)


def most_in_a_pack(manifest: Manifest) -> int:
    """The largest ``engine.pack`` of the runs."""
    rows = np.unique(manifest.group_codes["engine"], return_index=True)[1]
    return max((manifest.group("engine", int(row)).pack for row in rows), default=0)


def _unknown_models(manifest: Manifest) -> Iterator[tuple[np.ndarray, str]]:
    """Runs of each model that packs do not take, with the reason."""
    codes = manifest.group_codes["model"]
    for code, row in zip(*np.unique(codes, return_index=True), strict=True):
        if reason := _unknown(manifest.group("model", int(row))):
            yield codes == code, reason


def _unknown(model: ModelSpec) -> str:
    folder = snapshot(model.hub_id, model.revision or "main") if model.hub_id else local_path(model.path)
    if folder is None:  # not here yet: the trainer finds out
        return ""
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return ""
    layers = PACKED_FAMILIES.get(config.get("model_type"))
    if layers is None:
        return f"model={model.name} of type {config.get('model_type')}"
    if model.adapter != "none" and (odd := set(model.adapter_targets) - set(layers)):
        return f"model.adapter_targets={min(odd)}"
    return ""
