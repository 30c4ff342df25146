"""``status.json``: what a live driver says of itself about once a second, for people and other processes."""

from __future__ import annotations

import json
import time
from typing import Any

from orchestrator.store.layout import Layout
from sweeps.manifest.atomic import write_atomically


def write_status(layout: Layout, status: dict[str, Any]) -> None:
    """Replace the file."""
    write_atomically(layout.status, json.dumps({**status, "updated_at": time.time()}).encode())


def read_status(layout: Layout) -> dict[str, Any] | None:
    """The last status written, or ``None`` when there is none that can be read."""
    try:
        status = json.loads(layout.status.read_bytes())
    except (OSError, ValueError):
        return None
    return status if isinstance(status, dict) else None
