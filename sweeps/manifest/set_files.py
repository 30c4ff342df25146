"""Which files a training set's path stands for: one file, or those of a split in a folder of many.

A folder is what ``datasets`` wrote with ``save_to_disk``, or one of data files, as its ``load_dataset`` reads
it and as hub repositories lie in the cache: by what ``README.md`` says of configurations, else by the names
of its files and folders. Splits are found by the library's own rules (:mod:`datasets.data_files`), against
which the tests hold this module; the rows are read by :mod:`sweeps.manifest.row_files`, so that the same rows
are the same set whatever they lie in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from sweeps.manifest.data_files import local_path
from sweeps.manifest.hf_cache import cache_folder, snapshot
from sweeps.manifest.row_files import FORMS, is_readable
from sweeps.spec import DataSpec, SpecError, nearest
from sweeps.spec.errors import cut, shown
from sweeps.spec.hub_names import may_be_hub_set
from sweeps.spec.plain_yaml import load_plain

FOLDERS = "a folder of such files, or one that datasets wrote with save_to_disk"
"""What may be given besides, for messages."""

SPLITS = "dataset_dict.json"
"""File by which ``save_to_disk`` marks a folder of several splits."""

STATE = "state.json"
"""The same for a folder of one."""

FIRST_SPLIT = "train"
"""Split that is read where none is named and there are several."""

KEYWORDS: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""Words in the names of files and folders that tell a split."""

_SHARD = re.compile(r"data/(?P<split>[^/]+?)-[0-9]{5}-of-[0-9]{5}[^/]*\.[^/]*")
_EDGE = r"[-._ 0-9]"


def files_of(data: DataSpec) -> list[Path]:
    """The files that hold the rows of a training set, in their order.

    Raises:
        SpecError: for a path without such files, or a configuration or split that is not there.
    """
    path = data.path or ""
    place = place_of(data)
    if place.is_dir():
        return _in_folder(data, place)
    for key in ("config", "split"):
        if given := getattr(data, key):
            raise SpecError(f"data.{key}={shown(given)}: {path!r} is a file; leave data.{key} out")
    return [place]


def names_hub_set(path: str) -> bool:
    """Whether a path is the name of a data set on the hub, and not of a file or folder here."""
    return may_be_hub_set(path) and not local_path(path).exists()


def place_of(data: DataSpec) -> Path:
    """The file or folder of a training set on this machine.

    Raises:
        SpecError: where there is none.
    """
    path = data.path or ""
    if data.hub_id:
        folder = snapshot(data.hub_id, data.commit or data.revision or "main", "data")
        if folder is None:
            revision = data.commit or data.revision or "main"
            raise SpecError(
                f"data.path={path!r}: is neither a file or folder here nor, at {revision}, in the hub's "
                f"cache ({cache_folder()}), where its rows must be before runs are planned; give {FORMS}, or "
                f"run `hf download --repo-type dataset --revision {revision} {data.hub_id}`"
            )
        return folder
    place = local_path(path)
    if not place.exists():
        raise SpecError(
            f"data.path={path!r}: no such file ({place.absolute()}); give {FORMS}, {FOLDERS}, or a hub id"
        )
    return place


def _in_folder(data: DataSpec, folder: Path) -> list[Path]:
    if (folder / SPLITS).is_file():
        splits = _list_of_text(folder / SPLITS, "splits")
        _refuse_config(data, ())
        return _saved(data, folder / _choose(data, splits))
    if (folder / STATE).is_file():
        _refuse_config(data, ())
        own = _read_json(folder / STATE).get("_split")
        _choose(data, [own] if isinstance(own, str) else [])
        return _saved(data, folder)
    found = {
        split: files
        for split, files in _splits_of(data, folder, _names(folder)).items()
        if any(map(is_readable, files))
    }
    if not found:
        raise SpecError(f"data.path={data.path!r}: the folder holds no rows; give {FORMS}, {FOLDERS}")
    files = found[_choose(data, list(found))]
    if unread := [name for name in files if not is_readable(name)]:
        raise SpecError(f"data.path={data.path!r}: {unread[0]} is no table of rows; give {FORMS}")
    return [folder / name for name in files]


def _choose(data: DataSpec, splits: Sequence[str]) -> str:
    """The split that is asked for, among those that there are."""
    if not data.split and (len(splits) == 1 or FIRST_SPLIT in splits):
        return splits[0] if len(splits) == 1 else FIRST_SPLIT
    if data.split in splits:
        return data.split
    if not splits:
        if data.split:
            raise SpecError(f"data.split={shown(data.split)}: {data.path!r} has no splits; leave it out")
        return ""
    known = cut(", ".join(splits))
    if data.split:
        raise SpecError(
            f"data.split={shown(data.split)}: {data.path!r} has {known}{nearest(data.split, splits)}"
        )
    raise SpecError(f"data.path={data.path!r}: has the splits {known}; name one with data.split")


def _saved(data: DataSpec, folder: Path) -> list[Path]:
    """The Arrow files of a folder that ``save_to_disk`` wrote."""
    state = _read_json(folder / STATE)
    if state.get("_indices_data_files") or state.get("_indices_files"):
        raise SpecError(
            f"data.path={data.path!r}: is a selection of rows as old versions of datasets saved it; load it "
            "and save it with a version of today"
        )
    try:
        names = [str(file["filename"]) for file in state["_data_files"]]
    except (KeyError, TypeError):
        raise SpecError(f"{folder / STATE}: names no data files; save the set again") from None
    if lost := [name for name in names if name != Path(name).name or not (folder / name).is_file()]:
        raise SpecError(f"data.path={data.path!r}: lacks {cut(lost[0])}; copy the folder again")
    return [folder / name for name in names]


def _splits_of(data: DataSpec, folder: Path, names: Sequence[str]) -> Mapping[str, list[str]]:
    """The files of each split, by what ``README.md`` says or else by their names."""
    configs = _configs(folder / "README.md")
    _refuse_config(data, [str(config.get("config_name", "default")) for config in configs])
    if not configs:
        return _by_names(names)
    config = _config(data, configs)
    root = str(config.get("data_dir") or "").strip("/")
    inside = [name for name in names if not root or name.startswith(f"{root}/")]
    given = config.get("data_files")
    if given is None:
        prefix = f"{root}/" if root else ""
        found = _by_names([name.removeprefix(prefix) for name in inside])
        return {split: [prefix + name for name in files] for split, files in found.items()}
    entries = given if isinstance(given, list) else [given]
    patterns: dict[str, list[str]] = {}
    for entry in entries:
        split = str(entry.get("split", FIRST_SPLIT)) if isinstance(entry, Mapping) else FIRST_SPLIT
        paths = entry.get("path") if isinstance(entry, Mapping) else entry
        listed = paths if isinstance(paths, list) else [paths]
        patterns.setdefault(split, []).extend(f"{root}/{p}" if root else str(p) for p in listed)
    found = {split: _matching(names, globs) for split, globs in patterns.items()}
    for split, files in found.items():
        if not files:
            raise SpecError(
                f"data.path={data.path!r}: README.md names {shown(patterns[split][0])} for {split!r}, and no "
                "such file is here; copy or download it too"
            )
    return found


def _configs(readme: Path) -> list[Mapping[str, Any]]:
    """What the head of a README says of configurations."""
    if not readme.is_file():
        return []
    head = re.match(r"---\s*\n(.*?)\n---", readme.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    try:
        told = load_plain(head[1]) if head else None
    except (yaml.YAMLError, ValueError):
        return []
    configs = told.get("configs") if isinstance(told, Mapping) else None
    return [c for c in configs if isinstance(c, Mapping)] if isinstance(configs, list) else []


def _refuse_config(data: DataSpec, known: Sequence[str]) -> None:
    if data.config and data.config not in known:
        there = f"has {cut(', '.join(known))}" if known else "names no configurations; leave it out"
        raise SpecError(
            f"data.config={shown(data.config)}: {data.path!r} {there}{nearest(data.config, known)}"
        )


def _config(data: DataSpec, configs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    by_name = {str(config.get("config_name", "default")): config for config in configs}
    if data.config:
        return by_name[data.config]
    default = [n for n, c in by_name.items() if c.get("default") or n == "default" or len(by_name) == 1]
    if len(default) != 1:
        raise SpecError(
            f"data.path={data.path!r}: has the configurations {cut(', '.join(by_name))}; name one with "
            "data.config"
        )
    return by_name[default[0]]


def _names(folder: Path) -> list[str]:
    """Files below a folder, by their paths from it; hidden ones and those of tools left out."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(p.as_posix() for p in found if not any(part.startswith((".", "__")) for part in p.parts))


def _by_names(names: Sequence[str]) -> dict[str, list[str]]:
    """Splits that names tell: of shards, of folders, of files; else all is for training."""
    names = [name for name in names if is_readable(name)]
    shards: dict[str, list[str]] = {}
    for name in names:
        if match := _SHARD.fullmatch(name):
            shards.setdefault(match["split"], []).append(name)
    if shards:
        return shards
    folders = {name: PurePosixPath(name).parts[:-1] for name in names}
    for parts in (folders, {name: PurePosixPath(name).parts[-1:] for name in names}):
        found = {
            split: files
            for split, words in KEYWORDS.items()
            if (files := [name for name in names if _says(parts[name], words)])
        }
        if found:
            return found
    return {FIRST_SPLIT: names} if names else {}


def _says(parts: Iterable[str], words: Iterable[str]) -> bool:
    """Whether one of the words stands by itself in one of the parts of a path."""
    pattern = re.compile(rf"(^|.*{_EDGE})({'|'.join(words)})($|{_EDGE}.*)", re.DOTALL)
    return any(pattern.fullmatch(part) for part in parts)


def _matching(names: Sequence[str], globs: Iterable[str]) -> list[str]:
    """The files that patterns name, pattern by pattern."""
    found: dict[str, None] = {}
    for glob in globs:
        pattern = re.compile(_regex(glob.removeprefix("./")))
        found |= {name: None for name in names if pattern.fullmatch(name)}
    return list(found)


def _regex(glob: str) -> str:
    """A pattern of files as a regular expression: ``**`` goes over folders, ``*`` and ``?`` do not."""
    kinds = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", glob)
    return "".join(
        kinds.get(part) or (part.replace("[!", "[^") if part.startswith("[") else re.escape(part))
        for part in parts
    )


def _read_json(file: Path) -> Mapping[str, Any]:
    try:
        read = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise SpecError(f"{file}: cannot be read ({cut(str(error))}); save the set again") from None
    return read if isinstance(read, Mapping) else {}


def _list_of_text(file: Path, key: str) -> list[str]:
    listed = _read_json(file).get(key)
    return [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
