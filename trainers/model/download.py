"""Hub models and training sets on this node's own disk: downloaded once a node, then loaded from there.

The first process that needs one downloads it, the others of the node wait and then ask the hub nothing. Owns
``.emsweep/`` inside the hub client's cache: a file a repository and revision, locked by whoever downloads and
holding :data:`DONE` once everything is there. The kernel frees the lock of a process that is killed, and what
that process left half made is completed by the next.
"""

from __future__ import annotations

import contextlib
import fcntl
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sweeps.manifest.hf_cache import cache_folder, missing_files, snapshot
from sweeps.spec import DataSpec, RunSpec
from sweeps.spec.mix import parts_of

DONE = "done\n"
"""What the file says after a whole download."""

WANTED = ("*.json", "*.jinja", "*.txt", "*.model", "*.safetensors")
"""Configuration, tokenizer and weights; pickled weights are left alone."""

CODE = ("*.py",)
"""What a model with code of its own needs besides."""

LOOK_S = 30.0
"""Seconds between two looks at how much of a model has come."""

ROWS = ("README.md", "*.json", "*.jsonl", "*.ndjson", "*.csv", "*.parquet", "*.arrow", "*.gz")
"""What a training set needs: its rows, and what tells its splits."""

UNWANTED = ("consolidated*", "original/*", "onnx/*")
"""The same weights once more in other forms."""


def local_folder(hub_id: str, revision: str, *, remote_code: bool = False) -> Path:
    """The folder of a hub model on this node, downloaded if need be.

    Args:
        hub_id: such as ``Qwen/Qwen2.5-Math-7B``.
        revision: branch, tag or commit.
        remote_code: fetch the model's own code too.

    Raises:
        OSError: when the hub cannot be reached, or closes the model or lacks the revision.
    """
    note = _note(hub_id, revision)

    def ready() -> Path | None:
        whole = _is_whole(note, lambda: not missing_files(hub_id, revision))
        return snapshot(hub_id, revision) if whole else None

    def download() -> Path:
        wanted = [*WANTED, *(CODE if remote_code else ())]
        return _download(hub_id, revision, wanted, ignore_patterns=list(UNWANTED))

    return _once_a_node(note, ready, download)


def fetch_sets(data: DataSpec) -> None:
    """Download training sets of the hub to this node if need be; raises as :func:`local_folder` does."""
    for part in parts_of(data) if data.mix else ():
        fetch_sets(part.data)
    if not data.hub_id or not data.commit:
        return
    hub_id, commit = data.hub_id, data.commit
    note = _note(f"datasets/{hub_id}", commit)

    def ready() -> Path | None:
        here = snapshot(hub_id, commit, "data")
        return here if _is_whole(note, lambda: here is not None) else None

    _once_a_node(note, ready, lambda: _download(hub_id, commit, list(ROWS), repo_type="dataset"))


def _note(repository: str, revision: str) -> Path:
    return cache_folder() / ".emsweep" / f"{repository.replace('/', '--')}@{revision.replace('/', '--')}"


def _once_a_node(note: Path, ready: Callable[[], Path | None], download: Callable[[], Path]) -> Path:
    folder = ready()
    if folder is not None:
        return folder
    note.parent.mkdir(parents=True, exist_ok=True)
    with _held(note):
        folder = ready()
        if folder is None:
            folder = download()
            note.write_text(DONE)
        return folder


@contextlib.contextmanager
def fetched(specs: Sequence[RunSpec], heartbeat: Callable[[str], None]) -> Iterator[None]:
    """Have the training sets of runs on this node, beating within it while hub models and sets arrive."""
    hub = any(spec.model.hub_id or spec.data.hub_id for spec in specs)
    with beating_while_models_grow(heartbeat) if hub else contextlib.nullcontext():
        for spec in specs:
            fetch_sets(spec.data)
        yield


@contextlib.contextmanager
def beating_while_models_grow(heartbeat: Callable[[str], None]) -> Iterator[None]:
    """Call ``heartbeat`` as long as models grow on this node, whichever process downloads them.

    15 GB may take longer than a watchdog waits. A download that stands still does not count as progress.
    """
    over = threading.Event()

    def watch() -> None:
        before = _bytes_here()
        while not over.wait(LOOK_S):
            now = _bytes_here()
            if now > before:
                heartbeat(f"{now / 2**30:.2f} GiB of models are on this node")
            before = now

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _bytes_here() -> int:
    """Bytes of hub models and data sets on this node's disk, of files half loaded too."""
    total_bytes = 0
    for file in cache_folder().glob("*--*/blobs/*"):
        with contextlib.suppress(FileNotFoundError):
            total_bytes += 512 * file.stat().st_blocks
    return total_bytes


def _is_whole(note: Path, is_there: Callable[[], bool]) -> bool:
    """Whether a download has ended here, or somebody filled the cache without one of ours."""
    try:
        return note.read_text() == DONE
    except FileNotFoundError:
        return is_there()


@contextlib.contextmanager
def _held(file: Path) -> Iterator[None]:
    """Hold the lock of a file; without locks on this file system the hub client's own have to do."""
    with file.open("a") as opened:
        with contextlib.suppress(OSError):
            fcntl.flock(opened, fcntl.LOCK_EX)
        yield


def _download(hub_id: str, revision: str, wanted: list[str], **options: Any) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()  # a worker has no terminal
    return Path(snapshot_download(hub_id, revision=revision, allow_patterns=wanted, **options))
