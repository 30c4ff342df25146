"""What the safetensors files of a model folder hold, read from their headers, against what the model needs.

Reads a few kilobytes a file; no weight is loaded. Keys that a wrapper left behind (``module.`` of
DistributedDataParallel, ``_orig_mod.`` of torch.compile) are recognised, and stripped when weights are
loaded.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from sweeps.spec import SpecError

WRAPPER_PREFIXES = ("module.", "_orig_mod.")
"""What wrappers put before every key."""

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
LFS_START = b"version https://git-lfs"
"""First bytes of the small text that stands for a file which git-lfs has not fetched."""

MAX_NAMED = 3
"""Keys named in a message; it says how many there are."""

BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
"""Bytes of a number in each type that weights are trained from; others are codes of quantised weights."""

CODES = ("F8", "F6", "F4", "I8", "I16")
"""How the types of quantised weights begin; other whole numbers are masks and positions."""

NUMBERED = re.compile(r"\.\d+\.")
"""The number of a layer in a key."""

Shapes = Mapping[str, tuple[int, ...]]
"""Shape of each tensor by key."""


class Stored(NamedTuple):
    """One tensor as a file's header describes it."""

    shape: tuple[int, ...]
    dtype: str


def stored_tensors(folder: Path) -> dict[str, Stored]:
    """Every tensor in a model folder, by its key as stored.

    Raises:
        SpecError: for a missing, unfetched, cut off or damaged file, for a shard outside the folder, and for
            a tensor that two shards hold.
    """
    found: dict[str, Stored] = {}
    for file in weight_files(folder):
        here = _header(file)
        if doubled := [key for key in here if key in found]:
            raise SpecError(
                f"{file}: holds {some(doubled)}, which another file of the folder holds as well, and chance "
                "says which counts; save the model again"
            )
        found |= here
    return found


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a model's weights, as the library looks for them: one file before an index of
    several, which must be whole all the same.

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
    return [folder / SINGLE] if (folder / SINGLE).is_file() else files


def _header(file: Path) -> dict[str, Stored]:
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
        found = {key: Stored(tuple(e["shape"]), str(e["dtype"])) for key, e in entries.items()}
        spans = {key: entry["data_offsets"][1] - entry["data_offsets"][0] for key, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SpecError(
            f"{file}: is no safetensors file, or is cut off; copy or download it again"
        ) from error
    if 8 + length + end != size:
        raise SpecError(
            f"{file}: has {size:,} bytes where its header asks for {8 + length + end:,}; copy or "
            "download it again"
        )
    for key, (shape, dtype) in found.items():
        if dtype in BYTES and spans[key] != BYTES[dtype] * math.prod(shape):
            raise SpecError(
                f"{file}: {key} has {spans[key]:,} bytes where {list(shape)} numbers of {dtype} need "
                f"{BYTES[dtype] * math.prod(shape):,}; copy or download it again"
            )
    return found


def wrapper_prefix(stored: Mapping[str, Stored], needed: Shapes) -> str:
    """What a wrapper put before every stored key; empty if nothing."""
    prefix = ""
    while stored and not any(key in needed for key in _strip(stored, prefix)):
        more = next((p for p in WRAPPER_PREFIXES if all(k.startswith(prefix + p) for k in stored)), None)
        if more is None:
            return ""
        prefix += more
    return prefix


def require_weights(folder: Path, stored: Mapping[str, Stored], needed: Shapes, tied: set[str]) -> str:
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
            f"model folder {folder}: its weights lack {some(missing)} that config.json asks for; "
            "they would be random; save the whole model again, or mend the keys (wrappers write module. or "
            "_orig_mod. before them)"
        )
    other = [key for key in needed if key in have and have[key].shape != needed[key]]
    if other:
        key = other[0]
        raise SpecError(
            f"model folder {folder}: {some(other)} with another shape than config.json asks for "
            f"({list(have[key].shape)} "
            f"stored, {list(needed[key])} needed); copy weights and config.json of one model"
        )
    return prefix


def require_numbers(folder: Path, stored: Mapping[str, Stored], needed: Shapes) -> None:
    """Refuse quantised weights, which would be read as if their codes were numbers.

    Raises:
        SpecError: naming the tensors and their type.
    """
    codes = [
        key
        for key, tensor in stored.items()
        if tensor.dtype.startswith(CODES) or (key in needed and tensor.dtype not in BYTES)
    ]
    if codes:
        raise SpecError(
            f"model folder {folder}: {some(codes)} stored as {stored[codes[0]].dtype}, codes of a quantised "
            f"model that cannot be trained; give the model in one of {', '.join(BYTES)}"
        )


def unread_weights(stored: Mapping[str, Stored], needed: Shapes, prefix: str) -> list[str]:
    """Stored tensors that belong to the model and that it has no place for: its configuration is then of
    another model, or cut short.

    A tensor belongs to it where one of the same module, or of the same place in another layer, is needed.
    """
    modules = {key.rpartition(".")[0] for key in needed}
    places = {NUMBERED.sub(".*.", key) for key in needed}
    spare = [key for key in _strip(stored, prefix) if key not in needed]
    return [key for key in spare if key.rpartition(".")[0] in modules or NUMBERED.sub(".*.", key) in places]


def _strip(stored: Mapping[str, Stored], prefix: str) -> dict[str, Stored]:
    return {key.removeprefix(prefix): tensor for key, tensor in stored.items()}


def some(keys: list[str]) -> str:
    shown = ", ".join(keys[:MAX_NAMED])
    return (
        f"{len(keys)} tensors ({shown}{', …' if len(keys) > MAX_NAMED else ''})" if len(keys) > 1 else shown
    )
