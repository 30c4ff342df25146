"""Crafted directories and configuration files: what they run and what they write elsewhere.

Each case is a directory or a file as a stranger would hand it over, and a command that a careful user gives:
no flag of trust. Code that runs leaves a mark in a folder; every file outside the case's own folder is
compared before and after.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import pickle
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.cli import main
from orchestrator.trust.needs import HYDRA_JOB, PICKLE
from sweeps.manifest.manifest_file import read_manifest, write_manifest

PAYLOAD = "payload-ran"
"""What shell lines of crafted files hold: where a job's text has it, the job would run it."""

VERBS = ("resume", "rerun", "replay", "status", "verify", "table", "report", "log", "cancel", "dashboard")
"""Verbs that a directory of unknown origin is given to."""

RUN_PAGES = ("/run/{}", "/run/{}/steps.csv")
PAGES = ("/", "/runs", "/runs.csv", "/cells", "/compare", "/findings", "/panel/coverage", *RUN_PAGES)
"""Pages of the dashboard that are opened."""

LINKS = (
    *("spool", "control", "parts", "logs", "driver.lock", "status.json", "state.sqlite", "report.html"),
    *("sweep.yaml", "manifest.parquet", "digests.json", "runs.parquet", "damaged", "tensorboard"),
)
"""Names in a directory that lead elsewhere."""

SQL = "0; COPY (SELECT 1) TO '{}/outside/sql'; SELECT 0 AS x"
"""What would write a file, were it spliced into a query."""

FILES = {
    "target": "trainer: {target: evil.Loop}",
    "hydra target": "trainer: {_target_: evil.Loop}",
    "shell": f"cluster: {{job: {{setup: 'echo {PAYLOAD}'}}}}",
    "shell by partition": f'cluster: {{job: {{partition: "a\\n{PAYLOAD}"}}}}',
    "sbatch by account": f'cluster: {{job: {{account: "a\\n#SBATCH --wrap={PAYLOAD}"}}}}',
    "shell by time": f"cluster: {{job: {{time: '1; {PAYLOAD}'}}}}",
    "shell by nodes": f'cluster: {{job: {{nodes: "1\\n{PAYLOAD}"}}}}',
    "shell by scratch": f'cluster: {{job: {{scratch: "/tmp\\n{PAYLOAD}"}}}}',
    "preload": f"cluster: {{environment: {{LD_PRELOAD: /tmp/{PAYLOAD}.so}}}}",
    "variable's name": f'cluster: {{environment: {{"A=1; {PAYLOAD}; B": x}}}}',
    "remote code": "model: {trust_remote_code: true}",
    "address": "cluster: {address: 'evil.example:6379'}",
    "node folder": "cluster: {pool: local, node_spools: OUTSIDE}",
    "package's parent": "example: {path: 'pkg://evil.inner/rows.jsonl'}",
    "attribute of ours": "trainer: {target: trainers.evaluation.grading.subprocess}",
    "hydra callback": "hydra: {callbacks: {x: {_target_: evil.Loop}}, run: {dir: OUTSIDE/run}}",
    "hydra launcher": "hydra: {launcher: {_target_: evil.Loop}, sweep: {dir: OUTSIDE/sweep}}",
    "search path": "hydra: {searchpath: ['file://OUTSIDE']}",
    "name with ..": "sweep: {name: ../outside/x, axes: {seed: range(2)}}",
    "hub id with ..": "model: {hub_id: ../../../outside}",
    "device": "example: {path: /dev/zero}",
    "tag": "about: !!python/object/apply:evil.Loop []",
    "bomb": "BOMB",
}
"""Lines of a configuration file that would run code, choose who runs ours, or write elsewhere."""

BOMB = "\n".join(
    ["x0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    + [f"x{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
)
"""A billion values in nine lines: whoever copies them never ends."""


@dataclass(kw_only=True)
class Ground:
    """Folders of one case."""

    root: Path
    """Everything of the case."""

    @property
    def directory(self) -> Path:
        """The crafted sweep directory."""
        return self.root / "theirs"

    @property
    def outside(self) -> Path:
        """A folder that nothing may write to."""
        return self.root / "outside"

    @property
    def marks(self) -> Path:
        """A folder that code which runs writes to."""
        return self.root / "marks"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One crafted thing and what is done with it."""

    name: str
    """For people."""
    craft: Callable[[Ground], None]
    """Makes it."""
    words: tuple[str, ...]
    """The command; ``dashboard`` opens every page."""


class Mark:
    """A pickle that leaves a mark when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def measure() -> dict[str, Any]:
    """Run every case."""
    wrong: dict[str, list[str]] = {"code_run": [], "written": [], "traceback": []}
    all_cases = list(cases())
    with tempfile.TemporaryDirectory(prefix="emsweep-hostile-") as folder, _nobody(Path(folder)):
        base = Path(folder) / "base"
        _emsweep("launch", "sweep=noop", "sweep.n=2", "--pool", "inline", "--dir", str(base))
        for number, case in enumerate(all_cases):
            ground = Ground(root=Path(folder) / f"case{number}")
            for part in (ground.outside, ground.marks):
                part.mkdir(parents=True)
            shutil.copytree(base, ground.directory)
            for name in _run(case, ground):
                wrong[name].append(case.name)
    return {
        "cases": len(all_cases),
        **{name: len(cases) for name, cases in wrong.items()},
        "wrong": {k: v for k, v in wrong.items() if v},
    }


def _run(case: Case, ground: Ground) -> Iterator[str]:
    """Do one case and yield what went wrong."""
    with contextlib.chdir(ground.root), _own_modules():
        case.craft(ground)
        shutil.rmtree(os.environ["XDG_CONFIG_HOME"], ignore_errors=True)
        before = _contents(ground.outside)
        try:
            printed = _emsweep(*case.words) if case.words[0] != "dashboard" else _dashboard(ground)
        except Exception as error:
            printed = ""
            print(f"{case.name}: {error!r}", file=sys.stderr)
            yield "traceback"
        if list(ground.marks.iterdir()) or PAYLOAD in printed.partition("error:")[0]:
            yield "code_run"
        if _contents(ground.outside) != before:
            yield "written"


def cases() -> Iterator[Case]:
    """Every case."""
    for verb in VERBS:
        more = {"rerun": ("--incomplete",), "replay": ("RUN_ID",), "dashboard": ()}.get(verb, ())
        for name, craft in (("own module", _module_inside), ("module beside it", _module_beside)):
            yield Case(name=f"{name} × {verb}", craft=craft, words=(verb, "theirs", *more))
    for verb in ("resume", "rerun", "replay"):
        more = {"rerun": ("--incomplete",), "replay": ("RUN_ID",)}.get(verb, ())
        yield Case(name=f"pickle × {verb}", craft=_with_pickle, words=(verb, "theirs", *more))
    for link in LINKS:
        for verb in ("resume", "report", "cancel", "repair", "mirror", "table"):
            more = ("--to", "tensorboard") if verb == "mirror" else ()
            yield Case(name=f"link {link} × {verb}", craft=_with_link(link), words=(verb, "theirs", *more))
    for pipe in ("status.json", "sweep.yaml", "control/stop-1-a.json"):
        for verb in ("resume", "table", "repair"):
            yield Case(name=f"pipe {pipe} × {verb}", craft=_with_pipe(pipe), words=(verb, "theirs"))
    for column in ("index", "run_id", "name", "outcome", "cell", "worker"):
        yield Case(name=f"sql in {column}", craft=_with_sql(column), words=("dashboard",))
        yield Case(name=f"sql in {column} × table", craft=_with_sql(column), words=("table", "theirs"))
    yield Case(name="run id with ..", craft=_with_run_id, words=("resume", "theirs"))
    for name, line in FILES.items():
        for queue in ((), ("cluster=slurm", "--dry-run"), ("cluster=kuberay", "--dry-run")):
            words = ("launch", "sweep=evil.yaml", "--dir", "new", *queue)
            yield Case(name=f"file: {name} {' '.join(queue)}", craft=_with_file(line), words=words)


def _module(ground: Ground, folder: Path) -> None:
    """A trainer that leaves a mark, in a directory that was launched with it."""
    text = "from pathlib import Path\nfrom trainers.noop import Noop\n\nclass Loop(Noop): ...\n"
    (folder / "evil.py").write_text(f"{text}Path({str(ground.marks)!r}, 'm').touch()\n")
    sys.path.insert(0, str(folder))
    shutil.rmtree(ground.directory)
    words = ("launch", "sweep=noop", "sweep.n=2", "trainer.target=evil.Loop", "--pool", "inline")
    _emsweep(*words, "--dir", str(ground.directory))
    (ground.marks / "m").unlink()
    sys.path.remove(str(folder))
    sys.modules.pop("evil")


def _module_beside(ground: Ground) -> None:
    _module(ground, ground.root)
    _leave_open(ground)


def _module_inside(ground: Ground) -> None:
    _module(ground, ground.root)
    (ground.root / "evil.py").rename(ground.directory / "evil.py")
    _leave_open(ground)


def _leave_open(ground: Ground) -> None:
    """Leave runs to do: the results go, the runs stay."""
    for name in ("runs.parquet", "state.sqlite", "state.sqlite-wal", "state.sqlite-shm"):
        (ground.directory / name).unlink(missing_ok=True)
    for path in ground.directory.glob("spool/*.jsonl"):
        path.unlink()


def _with_pickle(ground: Ground) -> None:
    shutil.rmtree(ground.directory)
    words = ("launch", "sweep=noop", "sweep.n=2", f"trainer.target={HYDRA_JOB}", "--pool", "inline")
    _emsweep(*words, "--dir", str(ground.directory))
    (ground.directory / PICKLE).parent.mkdir(exist_ok=True)
    (ground.directory / PICKLE).write_bytes(pickle.dumps(Mark(ground.marks / "pickle")))


def _with_link(name: str) -> Callable[[Ground], None]:
    def craft(ground: Ground) -> None:
        place, target = ground.directory / name, ground.outside / "target"
        if place.is_dir():
            shutil.rmtree(place)
            target.mkdir()
        else:
            place.unlink(missing_ok=True)
            target.write_text("as it was")
        place.symlink_to(target)

    return craft


def _with_pipe(name: str) -> Callable[[Ground], None]:
    def craft(ground: Ground) -> None:
        (ground.directory / name).unlink(missing_ok=True)
        os.mkfifo(ground.directory / name)

    return craft


def _with_sql(column: str) -> Callable[[Ground], None]:
    def craft(ground: Ground) -> None:
        path = ground.directory / "runs.parquet"
        table = pq.read_table(path)
        filled = pa.array([SQL.format(ground.root)] * table.num_rows)
        pq.write_table(table.set_column(table.column_names.index(column), column, filled), path)

    return craft


def _with_run_id(ground: Ground) -> None:
    path = ground.directory / "manifest.parquet"
    manifest = read_manifest(path)
    write_manifest(dataclasses.replace(manifest, run_ids=["../../outside/x", "../../outside/y"]), path)
    _leave_open(ground)


def _with_file(line: str) -> Callable[[Ground], None]:
    def craft(ground: Ground) -> None:
        text = line.replace("OUTSIDE", str(ground.outside)).replace("BOMB", BOMB)
        named = text.startswith("sweep:")
        body = f"{text}\n" if named else f"{text}\nsweep: {{axes: {{seed: range(2)}}}}\n"
        defaults = "defaults: [override /trainer: noop]\n" if "trainer:" not in line else ""
        body = f"# @package _global_\n{defaults}{body}"
        (ground.root / "evil.yaml").write_text(body)
        mark = f"open({str(ground.marks / 'm')!r}, 'w')"
        (ground.root / "evil.py").write_text(f"{mark}\nfrom trainers.noop import Noop as Loop\n")
        sys.path.insert(0, str(ground.root))  # as `python -m` in the folder of the file has it

    return craft


def _dashboard(ground: Ground) -> str:
    """Open every page."""
    from starlette.testclient import TestClient

    from analysis.dashboard.app import build_app
    from analysis.dashboard.snapshot import Store
    from sweeps.spec.errors import UserError

    run_id = read_manifest(ground.directory / "manifest.parquet").run_ids[0]
    with contextlib.suppress(UserError):
        client = TestClient(build_app(Store(ground.directory)), base_url="http://127.0.0.1:1")
        for page in PAGES:
            client.get(page.format(run_id))
    return ""


def _emsweep(*words: str) -> str:
    """Run a command; returns what it prints."""
    out, err = io.StringIO(), io.StringIO()
    if "RUN_ID" in words:
        run_id = read_manifest(Path("theirs") / "manifest.parquet").run_ids[0]
        words = tuple(run_id if word == "RUN_ID" else word for word in words)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        main(list(words))
    return out.getvalue()


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"" for p in folder.rglob("*")}


@contextlib.contextmanager
def _nobody(folder: Path) -> Iterator[None]:
    """A user who has granted nothing."""
    before = os.environ.get("XDG_CONFIG_HOME")
    os.environ["XDG_CONFIG_HOME"] = str(folder / "config")
    try:
        yield
    finally:
        if before is None:
            del os.environ["XDG_CONFIG_HOME"]
        else:
            os.environ["XDG_CONFIG_HOME"] = before


@contextlib.contextmanager
def _own_modules() -> Iterator[None]:
    """Leave the import path and the crafted module as they were."""
    path = list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = path
        sys.modules.pop("evil", None)
