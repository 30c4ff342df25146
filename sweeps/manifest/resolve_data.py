"""The group ``data`` as it is written, read into the specification: what its rows are, in one digest."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sweeps.manifest.data_files import local_path, stable_path
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
        set_keys = [key for key, value in config.items() if value != defaults[key] and key != "name"]
        if set_keys:
            raise SpecError(
                f"data.{set_keys[0]}={shown(config[set_keys[0]])}: there is no training set; name one with "
                "data.path, or an option, such as data=addition"
            )
        return {}, None
    data = group_from_dict("data", config | {"digest": "", "num_rows": 0, "has_answers": False})
    content = content_of(data)
    asked = config.get("digest")
    if asked and asked != content.digest:
        raise SpecError(
            f"data.digest={shown(asked)}: {path} holds other rows (SHA-256 {content.digest[:12]}…); leave "
            "data.digest out to use it all the same"
        )
    label = config.get("name") or local_path(path).name.partition(".")[0]
    return config | {"name": label, "path": stable_path(path)} | asdict(content), None
