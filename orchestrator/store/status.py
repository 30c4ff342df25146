"""``status.json``: what a live driver says of itself about once a second, for people and other processes.

Its last key ``crc`` is the CRC-32 of the JSON before it; a file whose checksum is not right is ignored.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Mapping
from typing import Any

from orchestrator.store.digests import has_no_digests
from orchestrator.store.layout import Layout
from sweeps.manifest.atomic import write_atomically


def write_status(layout: Layout, status: dict[str, Any]) -> None:
    """Replace the file; ``updated_at`` is now, unless the status says otherwise."""
    text = json.dumps({"updated_at": time.time(), **{k: v for k, v in status.items() if k != "crc"}})
    write_atomically(layout.status, f'{text[:-1]}, "crc": "{_crc(text)}"}}'.encode())


def read_status(layout: Layout) -> dict[str, Any] | None:
    """The last status written, or ``None`` when there is none that can be read."""
    try:
        text = layout.status.read_bytes().decode()
        status = json.loads(text)
    except (OSError, ValueError):
        return None
    if not isinstance(status, dict):
        return None
    crc = status.pop("crc", None)
    if crc is None and has_no_digests(layout):
        return status
    return status if crc == _crc(text.rpartition(', "crc": ')[0] + "}") else None


def status_is_damaged(layout: Layout) -> bool:
    """Whether there is a file that is ignored; format 1 had no checksum and is not held to one."""
    return layout.status.exists() and read_status(layout) is None and not has_no_digests(layout)


def _crc(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def nodes_text(nodes: Mapping[str, Any]) -> str:
    """How many nodes are there, of how many."""
    there, asked = nodes["there"], nodes["asked"]
    of = f" of {asked}" if asked else ""
    return f"{there}{of} node{'' if (asked or there) == 1 else 's'} there"
