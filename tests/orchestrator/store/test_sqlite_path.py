"""Where the index lies, by type of file system."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.store import sqlite_path
from orchestrator.store.layout import Layout

MOUNTS = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /home rw,relatime - nfs4 server:/home rw,vers=4.2
31 30 0:41 / /home/me/scratch rw - xfs /dev/nvme0n1 rw
32 22 0:42 / /mnt/my\040bucket rw,nosuid - fuse.s3fs s3fs rw
33 22 0:43 / /data rw - ext4 /dev/sdb1 rw
34 22 0:44 / /data rw - lustre mds@tcp:/data rw,flock
""".strip()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/homework/sweep", "ext4"),
        ("/home/me/sweep", "nfs4"),
        ("/home/me/scratch", "xfs"),
        ("/home/me/scratch/sweep", "xfs"),
        ("/mnt/my bucket/sweep", "fuse.s3fs"),
        ("/data/sweep", "lustre"),
    ],
)
def test_the_innermost_and_latest_mount_tells_the_file_system(path, kind):
    assert sqlite_path.kind_of(path, MOUNTS) == kind


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", ""])
def test_the_log_works_on_a_machines_own_disks(kind):
    assert sqlite_path.works_with_wal(kind)


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "lustre", "ceph", "9p", "fuse.sshfs", "fuse"])
def test_it_does_not_across_a_network(kind):
    assert not sqlite_path.works_with_wal(kind)


def test_on_a_network_file_system_the_index_lies_in_the_cache_folder_one_per_sweep(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite_path, "kind_of", lambda *_: "nfs4")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first, second = (
        sqlite_path.state_path(Layout(tmp_path / "a")),
        sqlite_path.state_path(Layout(tmp_path / "b")),
    )
    assert first != second
    assert {first.parent, second.parent} == {tmp_path / "cache" / "emsweep"}
    assert sqlite_path.state_path(Layout(tmp_path / "c" / ".." / "a")) == first


def test_elsewhere_it_lies_in_the_sweep_directory():
    here = Layout(Path("/proc/no-such-sweep"))
    assert sqlite_path.state_path(here) == here.state
