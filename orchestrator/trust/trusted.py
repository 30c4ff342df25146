"""Grants that outlive a process. Owns ``emsweep/trusted.json`` in this user's configuration folder.

The file is outside every sweep directory, so that no directory can speak for itself. A sweep is known by its
id and by the digest of its manifest, not by its path or owner: a directory that moves stays trusted, one that
somebody else made or changed is not.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sweeps.spec.errors import UserError

VERSION = 1
"""Version of the file."""

MAX_SWEEPS = 10_000
"""Sweeps remembered, the newest: 10,000 take about 3 MB and 30 ms to read."""

MAX_MANIFESTS = 16
"""Manifests remembered per sweep, the newest: a directory holds one, and a sweeper widens it again and again.
"""


class Need(NamedTuple):
    """One thing that must be allowed before it is used."""

    key: str
    """What kind: ``target``, ``command``, ``remote_code``, ``pickle``, ``address``, ``node_spools``
    or ``link``.
    """
    value: str
    """Which one, exactly: the import path, the SHA-256, the address, where the link leads."""


def trusted_file(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Where grants are kept; ``None`` for a user without a home folder."""
    base = environment.get("XDG_CONFIG_HOME", "")
    if base.startswith("/"):
        return Path(base) / "emsweep" / "trusted.json"
    try:
        return Path.home() / ".config" / "emsweep" / "trusted.json"
    except RuntimeError:
        return None


class Trusted:
    """The grants of this user."""

    def __init__(self, path: Path | None) -> None:
        """Look into ``path`` when asked; ``None`` remembers nothing."""
        self._path = path

    def grants(self, sweep_id: str, digest: str) -> frozenset[Need] | None:
        """What was granted to a sweep with this manifest; ``None`` when this user never launched it.

        Raises:
            UserError: when the file is damaged.
        """
        entry = self._read().get(_key(sweep_id, digest))
        if entry is None or digest not in entry["manifests"]:
            return None
        return frozenset(Need(*pair) for pair in entry["granted"])

    def grant(self, sweep_id: str, digest: str, name: str, needs: Sequence[Need]) -> bool:
        """Remember grants; false where nothing can be remembered."""
        if self._path is None:
            return False
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _locked(self._path.with_suffix(".lock")):
                sweeps = self._read()
                key = _key(sweep_id, digest)
                entry = sweeps.pop(key, {"manifests": [], "granted": []})
                granted = dict.fromkeys([*(Need(*pair) for pair in entry["granted"]), *needs])
                manifests = [known for known in entry["manifests"] if known != digest]
                sweeps[key] = {
                    "name": name,
                    "manifests": [*manifests, digest][-MAX_MANIFESTS:],
                    "granted": [list(need) for need in granted],
                    "granted_at": round(time.time()),
                }
                self._write(dict(list(sweeps.items())[-MAX_SWEEPS:]))
        except OSError:
            return False  # a home that cannot be written to: the next verb asks for the flag
        return True

    def _read(self) -> dict[str, Any]:
        if self._path is None:
            return {}
        try:
            document = json.loads(self._path.read_bytes())
            sweeps = document["sweeps"]
            for entry in sweeps.values():
                if not isinstance(entry["manifests"], list) or any(len(p) != 2 for p in entry["granted"]):
                    raise ValueError("an entry of another shape")
        except OSError:
            return {}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(
                f"{self._path}: is damaged ({error!r}); delete it and grant again what it knew, with "
                "--allow-target or --trust"
            ) from error
        return sweeps

    def _write(self, sweeps: Mapping[str, Any]) -> None:
        assert self._path is not None
        fd, name = tempfile.mkstemp(prefix=".trusted-", dir=self._path.parent)  # mode 0600
        try:
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                json.dump({"version": VERSION, "sweeps": sweeps}, file)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self._path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise


def _key(sweep_id: str, digest: str) -> str:
    """A directory of before sweeps had ids is known by its manifest alone."""
    return sweep_id or f"manifest:{digest}"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
