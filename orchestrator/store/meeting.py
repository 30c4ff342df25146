"""``meeting.json``: where the nodes of a sweep find the head of its Ray, as the job says that runs the head.

A file rather than an argument, since the head moves: its job is preempted, and begins again on another node,
while the nodes that have joined live on. The secret without which nobody may speak to that Ray lies beside
it, in ``ray-token``; it stays the same for all lives of a job. Both are only their owner's to read.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from orchestrator.store.layout import Layout
from sweeps.manifest.atomic import replacing
from sweeps.spec.errors import UserError

VERSION = 1
"""Of the file."""

MeetingState = Literal["awaited", "open", "over"]
"""The head has not begun, or will begin again; it is there; it will not come back."""


@dataclass(frozen=True, kw_only=True)
class Meeting:
    """What the file says."""

    state: MeetingState
    address: str = ""
    """``host:port`` of an open meeting's head."""
    since: float = 0.0
    """Unix seconds since when it says so."""


def announce_meeting(layout: Layout) -> None:
    """Let nodes wait for a head that a job is about to begin, with a new secret."""
    document = {"version": VERSION, "state": "awaited", "address": ""}
    _write_private(layout.ray_token, secrets.token_hex(32))
    _write_private(layout.meeting, json.dumps(document) + "\n")


def read_meeting(layout: Layout) -> Meeting | None:
    """What the file says now; ``None`` where there is none, or none that can be read.

    Raises:
        UserError: for a file or a secret of somebody else, who would decide what runs here.
    """
    for path in (layout.meeting, layout.ray_token):
        _require_own(path)
    try:
        document = json.loads(layout.meeting.read_bytes())
        state, address = document["state"], document["address"]
        since = layout.meeting.stat().st_mtime
        known = document["version"] <= VERSION and state in get_args(MeetingState)
        if not known or not isinstance(address, str):
            return None
        return Meeting(state=state, address=address, since=since)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _require_own(path: Path) -> None:
    try:
        found = path.lstat()
    except OSError:
        return
    theirs = found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if theirs or not stat.S_ISREG(found.st_mode):
        raise UserError(
            f"{path}: is not this user's alone to write, and says whose work this machine would do; remove "
            "it and launch again"
        )


def _write_private(path: Path, text: str) -> None:
    """Replace a file by one that only its owner can read, whatever the umask."""
    with replacing(path) as new:
        new.touch(0o600)
        new.write_text(text)
