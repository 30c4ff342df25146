"""Requests to a live driver: small JSON files in ``control/`` that it consumes. Other processes never touch
SQLite.
"""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

from orchestrator.store.layout import Layout, write_atomically


def send_request(layout: Layout, verb: str, **arguments: Any) -> str:
    """Leave a request (``cancel`` with filters, ``cap`` with limits, ``stop``) and return the name of its
    file.
    """
    name = f"{verb}-{time.time_ns()}-{uuid.uuid4().hex[:8]}.json"
    write_atomically(layout.control / name, json.dumps({"verb": verb, **arguments}).encode())
    return name


def take_requests(layout: Layout) -> list[dict[str, Any]]:
    """Remove and return the requests left so far, oldest first; files that are no request are removed too."""
    requests = []
    for path in sorted(layout.control.glob("*.json"), key=lambda p: p.name.split("-")[1:]):
        try:
            request = json.loads(path.read_bytes())
        except ValueError:
            request = None
        path.unlink(missing_ok=True)
        if isinstance(request, dict) and "verb" in request:
            requests.append(request)
    return requests


def is_taken(layout: Layout, name: str) -> bool:
    """Whether the driver has consumed a request."""
    return not (layout.control / name).exists()
