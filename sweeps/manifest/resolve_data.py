"""The group ``data`` as it is written, read into the specification: what its rows are, in one digest."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from sweeps.manifest.data_files import local_path, stable_path
from sweeps.manifest.set_files import names_hub_set, place_of
from sweeps.manifest.training_set import content_of
from sweeps.spec import DataSpec, SpecError, coerce_key, group_from_dict, group_to_dict
from sweeps.spec.errors import shown
from sweeps.spec.identity import plain


def resolve_data(config: dict[str, Any]) -> tuple[dict[str, Any], None]:
    """Read a training set for what identifies it.

    Raises:
        SpecError: for a file that is missing, a row without the fields, or settings of a set without one.
    """
    config = {key: plain(coerce_key(f"data.{key}", value)) for key, value in config.items()}
    path, defaults = config.get("path"), group_to_dict(DataSpec())
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
    asked = config.get("digest")
    if asked and asked != content.digest:
        raise SpecError(
            f"data.digest={shown(asked)}: {path} holds other rows (SHA-256 {content.digest[:12]}…); leave "
            "data.digest out to use it all the same"
        )
    name = path.rstrip("/").rpartition("/")[2] if data.hub_id else local_path(path).name.partition(".")[0]
    where = {key: getattr(data, key) for key in ("path", "hub_id", "revision", "commit")}
    return config | where | {"name": config.get("name") or name} | asdict(content), None


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
