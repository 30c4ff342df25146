"""What a path may name besides a file or folder: a repository of the hub. Pure."""

from __future__ import annotations

import re

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""``organisation/name``."""

DATA_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".parquet", ".arrow", ".gz")
"""How the names of files of rows end."""


def may_be_hub_set(path: str) -> bool:
    """Whether a data set on the hub may be called so."""
    return bool(HUB_ID.fullmatch(path)) and not path.endswith(DATA_SUFFIXES)
