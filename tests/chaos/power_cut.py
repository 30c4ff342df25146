"""What a disk holds after the power was cut: the system calls of a process, replayed up to any of them.

A file's bytes are safe once the file was synced, a name once its folder was. What was neither may be there or
not, each by itself; that is all that POSIX promises, and less than most file systems do.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

CALLS = (
    "openat", "write", "pwrite64", "rename", "unlink", "mkdir", "rmdir", "fsync", "fdatasync", "ftruncate",
    "link",
)  # fmt: skip
"""Calls that change what is on the disk, or make it safe."""

STRACE = (
    "strace",
    "-f",
    "--seccomp-bpf",
    "-qq",
    "-xx",
    "-s",
    "100000000",
    "-y",
    "-e",
    f"trace={','.join(CALLS)}",
)

_CALL = re.compile(r"^\d+ +(\w+)\((.*)\) += (-?\d+)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_FD = re.compile(r"^\d+<((?:\\x[0-9a-f]{2})*)>")


class Call(NamedTuple):
    """One system call that succeeded."""

    name: str
    paths: tuple[str, ...]
    data: bytes
    """What was written."""
    number: int
    """Offset of a ``pwrite64``, length of a ``ftruncate``."""
    flags: str
    """Of an ``openat``."""


def calls_of(trace: Path, cwd: Path, root: Path) -> list[Call]:
    """The calls of a trace that concern files below ``root``."""
    found = [_parsed(line, cwd) for line in _whole_lines(trace)]
    return [
        c for c in found if c is not None and any(p == str(root) or p.startswith(f"{root}/") for p in c.paths)
    ]


def _whole_lines(trace: Path) -> Iterator[str]:
    """Lines of the trace, calls that were interrupted by another thread's put together."""
    begun: dict[str, str] = {}
    for line in trace.read_text().splitlines():
        pid = line.split(" ", 1)[0]
        if line.endswith("<unfinished ...>"):
            begun[pid] = line.removesuffix("<unfinished ...>").rstrip()
        elif "resumed>" in line and pid in begun:
            yield begun.pop(pid) + line.partition("resumed>")[2]
        else:
            yield line


def _parsed(line: str, cwd: Path) -> Call | None:
    match = _CALL.match(line)
    if match is None or int(match[3]) < 0:
        return None
    name, words = match[1], match[2]
    texts = [bytes.fromhex(text.replace("\\x", "")) for text in _TEXT.findall(words)]
    if name in ("openat", "rename", "unlink", "mkdir", "rmdir", "link"):
        paths = tuple(str(cwd / text.decode(errors="replace")) for text in texts)
        return Call(name, paths, b"", 0, words.rpartition('"')[2])
    fd = _FD.match(words)
    if fd is None:
        return None
    path = bytes.fromhex(fd[1].replace("\\x", "")).decode(errors="replace")
    last = words.rpartition(", ")[2]
    number = int(last) if name in ("pwrite64", "ftruncate") else 0
    data = texts[0][: int(match[3])] if name in ("write", "pwrite64") else b""
    return Call(name, (path,), data, number, "")


class _File:
    def __init__(self) -> None:
        self.now = bytearray()
        self.safe = b""


class Disk:
    """Files and folders as the process sees them, and as they are safe."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self.names: dict[str, _File | None] = {}
        """What the process sees; ``None`` is a folder."""
        self.safe_names: dict[str, _File | None] = {}
        """What a power cut leaves for certain."""

    def apply(self, call: Call) -> None:
        """Let one call happen."""
        path = call.paths[0]
        file = self.names.get(path)
        match call.name:
            case "mkdir":
                self.names[path] = None
            case "openat":
                if "O_CREAT" in call.flags and path not in self.names:
                    self.names[path] = _File()
                elif "O_TRUNC" in call.flags and file is not None:
                    file.now.clear()
            case "rename" | "link":
                self.names[call.paths[1]] = file
                if call.name == "rename":
                    self.names.pop(path, None)
            case "unlink" | "rmdir":
                self.names.pop(path, None)
            case "write" if file is not None:
                file.now += call.data
            case "pwrite64" if file is not None:
                file.now.extend(bytes(max(0, call.number + len(call.data) - len(file.now))))
                file.now[call.number : call.number + len(call.data)] = call.data
            case "ftruncate" if file is not None:
                del file.now[call.number :]
            case "fsync" | "fdatasync":
                if file is not None:
                    file.safe = bytes(file.now)
                else:
                    self._sync_folder(path)

    def _sync_folder(self, folder: str) -> None:
        inside = [name for name in {*self.names, *self.safe_names} if name.rpartition("/")[0] == folder]
        for name in inside:
            if name in self.names:
                self.safe_names[name] = self.names[name]
            else:
                self.safe_names.pop(name, None)

    def after_a_cut(self, dice: random.Random | None) -> dict[str, bytes | None]:
        """What is left: without dice only what is safe, else each unsafe name and content by chance."""
        names = dict(self.safe_names)
        changed = [n for n in {*self.names, *names} if self.names.get(n, self) is not names.get(n, self)]
        for name in sorted(changed):
            if dice is None or dice.random() < 0.5:
                continue
            if name in self.names:
                names[name] = self.names[name]
            else:
                del names[name]
        found: dict[str, bytes | None] = {}
        for name, file in sorted(names.items()):
            if name != self._root and not name.startswith(f"{self._root}/"):
                continue
            parent = name.rpartition("/")[0]
            if name != self._root and found.get(parent, b"") is not None:
                continue  # nobody can reach it
            if file is None:
                found[name] = None
            else:
                found[name] = bytes(file.now) if dice is not None and dice.random() < 0.5 else file.safe
        return found


def write_to(folder: Path, root: Path, left: dict[str, bytes | None]) -> None:
    """Make what was left below ``root``."""
    for name, content in left.items():
        path = folder / Path(name).relative_to(root)
        if content is None:
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.write_bytes(content)
