"""Requests to a live driver: small JSON files in ``control/`` that it consumes. Other processes never touch
SQLite.
"""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path
from typing import Any

from orchestrator.store.layout import Layout
from sweeps.manifest.atomic import write_atomically


def send_request(layout: Layout, verb: str, **arguments: Any) -> str:
    """Leave a request (``cancel`` with filters, ``cap`` with limits, ``stop``) and return the name of its
    file.
    """
    name = f"{verb}-{time.time_ns()}-{uuid.uuid4().hex[:8]}.json"
    write_atomically(layout.control / name, json.dumps({"verb": verb, **arguments}).encode())
    return name


def requests_left(layout: Layout) -> list[tuple[Path, dict[str, Any]]]:
    """The requests left so far, oldest first; what is no request is removed.

    A request counts as taken once its file is gone: whoever obeys it removes it when its effect is durable.
    """
    found = []
    for path in sorted(layout.control.glob("*.json"), key=lambda p: p.name.split("-")[1:]):
        if not path.is_file():
            continue  # a folder or a pipe, which nobody of ours has left
        try:
            request = json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            request = None
        except OSError:
            continue  # gone meanwhile
        if isinstance(request, dict) and "verb" in request:
            found.append((path, request))
        else:
            path.unlink(missing_ok=True)
    return found


def is_taken(layout: Layout, name: str) -> bool:
    """Whether the driver has obeyed a request."""
    return not (layout.control / name).exists()
