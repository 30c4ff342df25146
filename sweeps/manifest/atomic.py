"""Files and folders that appear whole or not at all: written under another name beside, then renamed.

With ``durable`` they also survive a power cut once the call has returned: the bytes are forced to the disk
before the rename, the name after it. A process that is killed leaves at most a file that
:func:`is_temporary` tells from every other.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path


def is_temporary(path: Path) -> bool:
    """Whether a file or folder is one that was to replace another; its writer may still be at it."""
    return path.name.startswith(".") and path.name.endswith(".tmp")


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield the name to write to; the file takes ``path`` when the block ends, and is gone when it raises."""
    temporary = beside(path)
    try:
        yield temporary
        if durable:
            fsync_path(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        fsync_path(path.parent)


@contextlib.contextmanager
def replacing_folder(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield an empty folder to fill; it takes the place of the folder ``path`` when the block ends."""
    temporary = beside(path)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if durable:
            for file in temporary.rglob("*"):
                fsync_path(file)
            fsync_path(temporary)
        shutil.rmtree(path, ignore_errors=True)
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    if durable:
        fsync_path(path.parent)


def write_atomically(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Replace ``path``: a reader sees the old bytes or the new, never a part."""
    with replacing(path, durable=durable) as temporary:
        temporary.write_bytes(data)


def make_folder(path: Path) -> None:
    """Make a folder and those above it that are missing; their names survive a power cut."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        fsync_path(folder.parent)


def give_usual_mode(path: Path) -> None:
    """Let those read a file who may read any other new file of this process: some writers open theirs 0600.

    The umask is read off a new file: asking for it would change it for every thread, if only for a moment.
    """
    usual = beside(path)
    usual.touch(exist_ok=False)
    path.chmod(stat.S_IMODE(usual.stat().st_mode))
    usual.unlink()


def fsync_path(path: Path) -> None:
    """Force a file's bytes, or a folder's names, to the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def beside(path: Path) -> Path:
    """A name for what is to replace a file, in the same folder; nothing has it yet."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
