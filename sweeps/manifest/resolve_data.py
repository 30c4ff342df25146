"""The group ``data`` as it is written, read into the specification: what its rows are, in one digest."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from sweeps.manifest.data_files import local_path, stable_path
from sweeps.manifest.set_files import names_hub_set, place_of
from sweeps.manifest.training_set import content_of
from sweeps.spec import DataSpec, SpecError, coerce_key, group_from_dict, group_to_dict
from sweeps.spec.errors import shown
from sweeps.spec.identity import plain
from sweeps.spec.mix import OF_EACH, WEIGHT, check_mix, keys_of_set, mix_digest, parts_of, used_sets


def resolve_data(config: dict[str, Any]) -> tuple[dict[str, Any], None]:
    """Read a training set for what identifies it.

    Raises:
        SpecError: for a file that is missing, a row without the fields, or settings of a set without one.
    """
    config = {key: plain(coerce_key(f"data.{key}", value)) for key, value in config.items()}
    path, defaults = config.get("path"), group_to_dict(DataSpec())
    if config.get("mix"):
        return _resolve_mix(config | {"path": path or None}, defaults), None
    if path == "":
        raise SpecError("data.mix: names no set; give each a file and a weight: data.mix.NAME.path=FILE")
    if path is None:
        set_keys = [
            key for key, value in config.items() if value != defaults[key] and key not in ("name", "targets")
        ]
        if set_keys:
            raise SpecError(
                f"data.{set_keys[0]}={shown(config[set_keys[0]])}: there is no training set; name one with "
                "data.path, or an option, such as data=addition"
            )
        return {}, None
    data = _located(group_from_dict("data", config | {"digest": "", "num_rows": 0, "has_answers": False}))
    content = content_of(data)
    _require_digest(config, path, content.digest)
    name = path.rstrip("/").rpartition("/")[2] if data.hub_id else local_path(path).name.partition(".")[0]
    where = {key: getattr(data, key) for key in ("path", "hub_id", "revision", "commit")}
    return config | where | {"name": config.get("name") or name} | asdict(content), None


def _require_digest(config: Mapping[str, Any], what: str, digest: str) -> None:
    asked = config.get("digest")
    if asked and asked != digest:
        raise SpecError(
            f"data.digest={shown(asked)}: {what} holds other rows (SHA-256 {digest[:12]}…); leave "
            "data.digest out to use it all the same"
        )


def _resolve_mix(config: dict[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Read every set of a mix; one that alone has a weight is that set."""
    check_mix(config, defaults)
    mix, used = config["mix"], used_sets(config["mix"])
    common = {key: config[key] for key in keys_of_set() if key in config and key not in OF_EACH}
    resolved = {}
    for name in used:
        own = {key: value for key, value in mix[name].items() if key != WEIGHT}
        form = {key: config[key] for key in ("format", "targets") if key in config}
        with _said_of(name):
            found, _ = resolve_data(common | own | form)
        kept = {
            key: value
            for key, value in found.items()
            if value != defaults[key] and key not in ("name", *form)
        }
        resolved[name] = kept | {WEIGHT: mix[name].get(WEIGHT, 1)}
    if len(used) == 1:
        [name] = used
        alone = {key: value for key, value in config.items() if key not in ("mix", "path")}
        own = {key: value for key, value in mix[name].items() if key != WEIGHT}
        with _said_of(name):
            return resolve_data(alone | own | {"name": config.get("name") or name})[0]
    for one, other in itertools.combinations(used, 2):
        if resolved[one]["digest"] == resolved[other]["digest"]:
            raise SpecError(
                f"data.mix.{other}: has the rows of data.mix.{one}; leave one out, and give the other "
                "both weights"
            )
    parts = parts_of(group_from_dict("data", config | {"mix": resolved}))
    digest = mix_digest(parts)
    _require_digest(config, "data.mix", digest)
    left_out = {name: entry for name, entry in mix.items() if name not in used}
    return config | {
        "name": config.get("name") or "+".join(used),
        "mix": resolved | left_out,
        "digest": digest,
        "num_rows": sum(part.data.num_rows for part in parts),
        "has_answers": all(part.data.has_answers for part in parts),
    }


@contextlib.contextmanager
def _said_of(name: str) -> Iterator[None]:
    """Have messages name the keys of one set of a mix."""
    try:
        yield
    except SpecError as error:
        raise SpecError(re.sub(r"\bdata\.(?!mix\b)", f"data.mix.{name}.", str(error))) from None


def _located(data: DataSpec) -> DataSpec:
    """A set with the place where its rows are read: a path that means the same in another folder, or a hub id
    at a commit.
    """
    assert data.path is not None
    if data.commit:
        raise SpecError(
            f"data.commit={shown(data.commit)}: is filled in when the sweep is composed; ask for a commit "
            "with data.revision"
        )
    if names_hub_set(data.path):
        hub = replace(data, hub_id=data.path, revision=data.revision or "main")
        return replace(hub, commit=place_of(hub).name)
    if data.revision:
        place_of(data)
        raise SpecError(
            f"data.revision={shown(data.revision)}: {data.path!r} is no data set of the hub; leave it out"
        )
    return replace(data, path=stable_path(data.path), hub_id=None)
