"""Files of a small sweep deleted, emptied, cut off, replaced, copied: does every verb answer in a line?"""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from analysis.dashboard.app import build_app
from analysis.dashboard.snapshot import Store
from orchestrator.cli import main
from orchestrator.mirror import mirror_sweep
from orchestrator.store import digests
from sweeps.spec.errors import UserError
from tests.benchmarks.trust.small_sweep import MANIFEST, make

FILES = (
    "sweep.yaml", "manifest.parquet", "digests.json", "state.sqlite", "status.json", "driver.lock",
    "runs.parquet", "steps.parquet", "spool/driver-00001.jsonl", "spool/driver-00002.jsonl", "spool/worker",
)  # fmt: skip
"""``worker`` stands for the spool with the results."""

PAGES = ("/", "/runs", "/cells", "/findings", f"/run/{MANIFEST.run_ids[0]}", "/runs.csv")

VERBS: Mapping[str, Sequence[str]] = {
    "status": ("status", "DIR"),
    "verify": ("verify", "DIR", "--deep"),
    "table": ("table", "DIR", "--metric", "draw"),
    "compare": ("compare", "DIR", "model=tiny-32", "model=tiny-64", "--metric", "draw"),
    "report": ("report", "DIR", "--metric", "draw"),
    "resume": ("resume", "DIR", "--json"),
    "cancel": ("cancel", "DIR", "seed=1"),
    "rerun": ("rerun", "DIR", "--incomplete", "--json"),
    "log": ("log", "DIR"),
    "plan": ("plan", *MANIFEST.overrides, "--dir", "DIR"),
    "launch": ("launch", *MANIFEST.overrides, "--dir", "DIR", "--pool", "inline", "--yes", "--json"),
    "mirror": (),
    "repair": ("repair", "DIR"),
    "dashboard": (),
}


def _delete(path: Path) -> None:
    path.unlink()


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def _copy(path: Path) -> None:
    shutil.copy(path, path.with_name(f"{path.stem} (copy){path.suffix}"))


def _other_json(path: Path) -> None:
    path.write_text('{"kind": "result", "a": [1, null], "files": 3, "host": 7}\n')


def _binary(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 8)


FAULTS: Mapping[str, Callable[[Path], None]] = {
    "delete": _delete,
    "empty": _empty,
    "truncate": _truncate,
    "directory": _directory,
    "link": _dangling_link,
    "copy": _copy,
    "json": _other_json,
    "binary": _binary,
}


def measure(
    files: Sequence[str] = FILES, faults: Sequence[str] = tuple(FAULTS), verbs: Sequence[str] = tuple(VERBS)
) -> dict[str, Any]:
    """Every fault in every file, each verb in a fresh copy."""
    digests.TRY_AGAIN_S = 0.0  # nobody writes there
    logging.disable(logging.ERROR)
    wrong, num = [], 0
    with tempfile.TemporaryDirectory(prefix="emsweep-faults-") as temporary:
        whole = make(Path(temporary) / "whole")
        for file in files:
            for fault in faults:
                for verb in verbs:
                    folder = Path(temporary) / "sweep"
                    shutil.copytree(whole, folder)
                    FAULTS[fault](_path(folder, file))
                    why = _answer(folder, verb)
                    shutil.rmtree(folder)
                    num += 1
                    if why:
                        wrong.append(f"{file} {fault} {verb}: {why}")
    logging.disable(logging.NOTSET)
    return {"combinations": num, "clear": num - len(wrong), "wrong": wrong}


def _path(folder: Path, file: str) -> Path:
    if file != "spool/worker":
        return folder / file
    return next(folder.glob("spool/e*.jsonl"))


def _answer(folder: Path, verb: str) -> str:
    """What is wrong with a verb's answer, empty when it is clear."""
    digests.forget_what_was_seen()
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            if verb == "dashboard":
                return _pages(folder)
            if verb == "mirror":  # the command would make this whole process give way to others
                return _mirrored(folder)
            words = [str(folder) if word == "DIR" else word for word in VERBS[verb]]
            status = main(words)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:150]} ({Path(last.filename).name}:{last.lineno})"
    errors = [line for line in said.getvalue().splitlines() if line.startswith("error: ")]
    if status not in (0, 1, 2, 130) or (status == 2 and len(errors) != 1):
        return f"status {status}: {said.getvalue()[:200]!r}"
    return "a traceback was printed" if "Traceback" in said.getvalue() else ""


def _mirrored(folder: Path) -> str:
    with contextlib.suppress(UserError):
        mirror_sweep(folder, to="tensorboard", project="faults")
    return ""


def _pages(folder: Path) -> str:
    """What is wrong with a page: anything but an answer or a page that says what is damaged."""
    try:
        store = Store(folder)
    except UserError:
        return ""
    client = TestClient(build_app(store), raise_server_exceptions=False, base_url="http://127.0.0.1:8050")
    for page in PAGES:
        response = client.get(page)
        if response.status_code == 500 or "Traceback" in response.text:
            return f"{page}: {response.status_code}"
    return ""
