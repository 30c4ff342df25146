"""Where ``state.sqlite`` lies: in the sweep directory, unless that is on a network file system.

SQLite's write-ahead log shares memory between processes, which works on one machine's own disks only
(https://sqlite.org/wal.html). There the file lies in the driver's cache folder; other machines read Parquet,
``status.json`` and the spools.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from orchestrator.store.layout import Layout

NETWORK = {
    "9p", "afs", "beegfs", "ceph", "cifs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4",
    "ocfs2", "orangefs", "panfs", "pvfs2", "smb2", "smb3", "smbfs", "virtiofs", "wekafs",
}  # fmt: skip
"""Types of file systems that several machines may write to, as Linux names them."""

_OCTAL = re.compile(r"\\([0-7]{3})")


def works_with_wal(kind: str) -> bool:
    """Whether SQLite's write-ahead log works on a file system; in user space (``fuse.*``) it is doubtful."""
    return kind not in NETWORK and kind.partition(".")[0] not in ("fuse", "fuseblk")


def kind_of(path: str, mountinfo: str) -> str:
    """Type of the file system that holds an absolute path; empty when no mount does.

    Args:
        path: with links resolved.
        mountinfo: text of ``/proc/self/mountinfo`` (proc_pid_mountinfo(5)); a later mount hides an earlier.
    """
    best, found = -1, ""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        place = _OCTAL.sub(lambda m: chr(int(m[1], 8)), before.split(" ")[4])
        inside = path == place or path.startswith(place.rstrip("/") + "/")
        if inside and len(place) >= best:
            best, found = len(place), after.split(" ")[0]
    return found


def state_path(layout: Layout) -> Path:
    """The file of a sweep directory's index on this machine."""
    root = layout.root.resolve()
    try:
        kind = kind_of(str(root), Path("/proc/self/mountinfo").read_text())
    except OSError:
        kind = ""  # no Linux: a laptop's own disk
    if works_with_wal(kind):
        return layout.state
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "emsweep" / f"{hashlib.sha256(str(root).encode()).hexdigest()[:16]}.sqlite"
