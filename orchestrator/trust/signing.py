"""Signatures of what this user's own runs pickled. Owns ``emsweep/key`` in this user's configuration folder.

A pickle that a sweep directory holds is loaded only if it carries one. The key never enters a directory.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
from pathlib import Path

from orchestrator.trust.trusted import trusted_file

KEY_BYTES = 32
"""Length of the key."""


def sign(name: str, data: bytes) -> str:
    """The signature of what belongs to a name; empty for a user without a home folder to keep a key in."""
    try:
        key = _key(make=True)
    except OSError:
        return ""
    return _signature(key, name, data) if key else ""


def is_ours(name: str, data: bytes, signature: object) -> bool:
    """Whether this user signed exactly this for the name."""
    key = _key(make=False)
    wanted = _signature(key, name, data) if key else ""
    return bool(wanted) and isinstance(signature, str) and hmac.compare_digest(wanted, signature)


def _signature(key: bytes, name: str, data: bytes) -> str:
    return hmac.digest(key, name.encode() + b"\0" + data, "sha256").hex()


def _key(*, make: bool) -> bytes:
    """The key, made when it is missing; empty where there is none."""
    beside = trusted_file()
    if beside is None:
        return b""
    path = beside.with_name("key")
    with contextlib.suppress(OSError):
        return _whole(path.read_bytes())
    if not make:
        return b""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f".key-{secrets.token_hex(4)}")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
        with contextlib.suppress(FileExistsError):
            os.link(new, path)  # the first of several processes; the others take its key
    finally:
        Path(new).unlink()
    return _whole(path.read_bytes())


def _whole(key: bytes) -> bytes:
    return key if len(key) == KEY_BYTES else b""
