"""What the safetensors files of a model folder hold, read from their headers, against what the model needs.

Reads a few kilobytes a file; no weight is loaded. Keys that a wrapper left behind (``module.`` of
DistributedDataParallel, ``_orig_mod.`` of torch.compile) are recognised, and stripped when weights are
loaded.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

from sweeps.spec import SpecError

WRAPPER_PREFIXES = ("module.", "_orig_mod.")
"""What wrappers put before every key."""

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
LFS_START = b"version https://git-lfs"
"""First bytes of the small text that stands for a file which git-lfs has not fetched."""

MAX_NAMED = 3
"""Keys named in a message; it says how many there are."""

Shapes = Mapping[str, tuple[int, ...]]
"""Shape of each tensor by key."""


def stored_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor in a model folder, by its key as stored.

    Raises:
        SpecError: for a missing, unfetched, cut off or damaged file, and for a shard outside the folder.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for file in weight_files(folder):
        shapes |= _header(file)
    return shapes


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a model's weights.

    Raises:
        SpecError: where there are none, or the index names one that is missing or lies outside the folder.
    """
    index = folder / INDEX
    if not index.is_file():
        if not (folder / SINGLE).is_file():
            raise SpecError(
                f"model folder {folder}: has no {SINGLE}; save the weights with save_pretrained(…, "
                "safe_serialization=True)"
            )
        return [folder / SINGLE]
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SpecError(f"{index}: is no index of weights ({error}); save the model again") from error
    files = [folder / name for name in names]
    for name, file in zip(names, files, strict=True):
        if Path(name).name != name:
            raise SpecError(f"{index}: names {name!r}, outside the folder; copy the shard into {folder}")
        if not file.is_file():
            raise SpecError(f"{index}: names {name!r}, which is not there; copy or download it again")
    return files


def _header(file: Path) -> dict[str, tuple[int, ...]]:
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(len(LFS_START))
        if start == LFS_START:
            raise SpecError(
                f"{file}: is a git-lfs pointer, not the weights; run `git lfs pull` in its folder"
            )
        stream.seek(0)
        prefix = stream.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else size
        text = stream.read(length) if 8 + length <= size else b""
    try:
        header = json.loads(text)
        entries = {key: entry for key, entry in header.items() if key != "__metadata__"}
        end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        shapes = {key: tuple(entry["shape"]) for key, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SpecError(
            f"{file}: is no safetensors file, or is cut off; copy or download it again"
        ) from error
    if 8 + length + end != size:
        raise SpecError(
            f"{file}: has {size:,} bytes where its header asks for {8 + length + end:,}; copy or "
            "download it again"
        )
    return shapes


def wrapper_prefix(stored: Shapes, needed: Shapes) -> str:
    """What a wrapper put before every stored key; empty if nothing."""
    prefix = ""
    while stored and not any(key in needed for key in _strip(stored, prefix)):
        more = next((p for p in WRAPPER_PREFIXES if all(k.startswith(prefix + p) for k in stored)), None)
        if more is None:
            return ""
        prefix += more
    return prefix


def require_weights(folder: Path, stored: Shapes, needed: Shapes, tied: set[str]) -> str:
    """Refuse weights that would leave parameters at random values.

    Args:
        folder: the model's folder, for messages.
        stored: what its files hold.
        needed: what a model of its configuration has.
        tied: keys that share another's values and need not be stored.

    Returns:
        The prefix to strip from every stored key.

    Raises:
        SpecError: naming the missing keys, or those of another shape.
    """
    prefix = wrapper_prefix(stored, needed)
    have = _strip(stored, prefix)
    missing = [key for key in needed if key not in have and key not in tied]
    if missing:
        raise SpecError(
            f"model folder {folder}: its weights lack {_some(missing)} that config.json asks for; "
            "they would be random; save the whole model again, or mend the keys (wrappers write module. or "
            "_orig_mod. before them)"
        )
    other = [key for key in needed if key in have and have[key] != needed[key]]
    if other:
        key = other[0]
        raise SpecError(
            f"model folder {folder}: {_some(other)} with another shape than config.json asks for "
            f"({list(have[key])} "
            f"stored, {list(needed[key])} needed); copy weights and config.json of one model"
        )
    return prefix


def _strip(stored: Shapes, prefix: str) -> dict[str, tuple[int, ...]]:
    return {key.removeprefix(prefix): shape for key, shape in stored.items()}


def _some(keys: list[str]) -> str:
    shown = ", ".join(keys[:MAX_NAMED])
    return (
        f"{len(keys)} tensors ({shown}{', …' if len(keys) > MAX_NAMED else ''})" if len(keys) > 1 else shown
    )
