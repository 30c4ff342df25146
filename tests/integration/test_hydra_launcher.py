"""``hydra/launcher=emsweep`` with applications that know nothing of it."""

from __future__ import annotations

import base64
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from hydra.errors import ConfigCompositionException
from hydra.types import HydraContext
from omegaconf import OmegaConf

from analysis import open_sweep
from orchestrator.hydra_launcher.configurations import Configurations
from orchestrator.hydra_launcher.jobs import Job, manifest_of
from orchestrator.hydra_launcher.loader import RememberingLoader
from orchestrator.hydra_launcher.multirun import Multirun
from orchestrator.hydra_launcher.output_folder import begin_attempt
from orchestrator.hydra_launcher.returns import Finished, JobFailedError
from orchestrator.trust.signing import sign
from sweeps.spec import ResourcesSpec
from sweeps.spec.errors import UserError
from tests.orchestrator.sweeping import noop_manifest, run

APP = """
import logging
import hydra
from omegaconf import DictConfig, OmegaConf

OmegaConf.register_new_resolver("twice", lambda x: 2 * x)
calls = 0

@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> float:
    global calls
    calls += 1
    logging.getLogger("app").info("width %s", cfg.model.width)
    if cfg.lr == cfg.bad:
        raise ArithmeticError(f"lr {cfg.lr} is bad")
    return {"loss": cfg.lr * cfg.model.width + cfg.seed, "doubled": cfg.doubled, "calls": calls}

if __name__ == "__main__":
    main()
"""
CONFIG = """
defaults: [{model: small}, _self_]
lr: 0.1
seed: 0
bad: -1
doubled: ${twice:${lr}}
labels: [a, b]
"""
LAUNCHER = ("hydra/launcher=emsweep", "hydra.launcher.num_workers=1")


@pytest.fixture
def app(tmp_path) -> Path:
    """An application with a configuration group."""
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "conf" / "config.yaml").write_text(CONFIG)
    (tmp_path / "conf" / "model" / "small.yaml").write_text("width: 4\nnested: {depth: 1}\n")
    (tmp_path / "conf" / "model" / "large.yaml").write_text("width: 8\nnested: {depth: 2}\n")
    return tmp_path


def multirun(app: Path, *words: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "app.py", "-m", *LAUNCHER, *words],
        cwd=app,
        env={**os.environ, "HYDRA_FULL_ERROR": "0"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_an_unchanged_application_runs_resumes_and_keeps_its_output_folders(app):
    said = multirun(app, "lr=1,2", "model=small,large")
    assert "4 jobs, 0 of them done already" in said
    runs = open_sweep(app / "outputs" / "app").runs()
    assert sorted(runs["loss"]) == [4, 8, 8, 16]
    assert sorted(runs["doubled"]) == [2, 2, 4, 4]  # the application's own resolver works in the worker
    assert runs["calls"].max() == 4  # one warm process
    assert list(runs.columns[runs.columns.isin(["lr", "model"])]) == ["lr", "model"]
    [log] = app.glob("multirun/*/*/3/app.log")
    assert "width 8" in log.read_text()
    assert (log.parent / ".hydra" / "overrides.yaml").read_text().split() == ["-", "lr=2", "-", "model=large"]

    said = multirun(app, "model=large,small", "lr=3,2,1,2")  # wider, in another order, two jobs twice
    assert "6 jobs, 4 of them done already" in said
    assert len(list(app.glob("multirun/*/*/*/app.log"))) == 6
    verified = json.loads(
        subprocess.run(
            [Path(sys.executable).with_name("emsweep"), "status", "outputs/app", "--json"],
            cwd=app,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
    assert verified["counts"]["done"] == 6


def test_a_failing_job_is_told_of_and_run_anew_once_mended(app):
    said = multirun(app, "lr=1,2", "bad=2", code=1)
    assert "ArithmeticError: lr 2 is bad" in said
    runs = open_sweep(app / "outputs" / "app").runs().set_index("lr")
    assert list(runs["outcome"]) == ["done", "quarantined"]
    (app / "app.py").write_text(APP.replace("cfg.lr == cfg.bad", "False"))
    assert "2 jobs, 1 of them done already" in multirun(app, "lr=1,2", "bad=2")


@pytest.fixture
def opened(app, monkeypatch):
    """Hydra opened on the application: its loader, context and the multirun's configuration."""
    OmegaConf.register_new_resolver("twice", lambda x: 2 * x, replace=True)
    monkeypatch.chdir(app)
    with initialize_config_dir(str(app / "conf"), version_base="1.3", job_name="app"):
        loader = GlobalHydra.instance().config_loader()
        places = [f"hydra.sweep.dir={app}/multirun", "hydra/hydra_logging=disabled", "hydra/launcher=emsweep"]
        places += ["hydra.launcher.pool=inline", "hydra.launcher.directory=sweep"]
        master = compose(
            "config", overrides=[*places, "hydra/job_logging=disabled"], return_hydra_config=True
        )
        HydraConfig.instance().set_config(master)
        yield HydraContext(config_loader=loader, callbacks=Callbacks()), master


OPTIONS = {
    "directory": "sweep",
    "pool": "inline",
    "address": None,
    "num_workers": 1,
    "threads_per_worker": 1,
    "gpus_per_worker": 0.0,
    "cpus_per_worker": 1.0,
    "memory_gib": 0.0,
    "timeout_s": 0.0,
    "retries": None,
}


@pytest.mark.parametrize(
    "words",
    [
        ["lr=2"],
        ["model=large", "lr=2", "model.nested.depth=7"],
        ["+new=1", "labels=[c]", "hydra.job.num=3"],
        ["~bad", "seed=4"],
        ["model.nested={depth: 3}", "lr=null"],
        ["doubled=${seed}", "seed=-7", "model.width=${lr}"],
    ],
)
def test_a_configuration_is_what_hydra_composes(opened, words):
    context, master = opened
    theirs = context.config_loader.load_sweep_config(master, words)
    ours = Configurations(context.config_loader, master)
    for _ in range(2):  # composed, then remembered
        config = ours.config(words)
        assert config == theirs
        assert OmegaConf.to_yaml(config) == OmegaConf.to_yaml(theirs)
        config.lr = "changed by the task"
    plain = OmegaConf.to_container(theirs)
    del plain["hydra"]
    assert ours.content(words) == plain


@pytest.mark.parametrize(
    "text",
    [
        "seed=0",
        "seed=-12",
        "a.b_1.c=+3",
        "seed=007",
        "n=1_000",
        "n=1.0",
        "n=1e3",
        "model=3",
        "hydra.job.num=3",
    ],
)
def test_a_word_says_what_hydras_parser_reads(opened, text):
    context, master = opened
    parsed = OverridesParser.create().parse_override(text)
    [word] = Configurations(context.config_loader, master).words([text])
    assert (word.key, word.value) == (parsed.key_or_group, parsed.value())
    assert type(word.value) is type(parsed.value())
    assert word.ours is not parsed.is_hydra_override()
    assert word.sets_value is (word.ours and word.key != "model")


class Counting(RememberingLoader):
    """Hydra's loader; counts how often a job is composed."""

    def __init__(self, loader):
        super().__init__(loader, None, None)
        self.composed = []

    def load_sweep_config(self, master_config, sweep_overrides):
        self.composed.append(sweep_overrides)
        return super().load_sweep_config(master_config, sweep_overrides)


def swept(opened, *words):
    """Let Hydra's own sweeper go through these words; return what was composed and what came back."""
    context, master = opened
    context.config_loader = loader = Counting(context.config_loader)
    sweeper = Plugins.instance().instantiate_sweeper(
        hydra_context=context, task_function=lambda config: config.lr * config.model.width, config=master
    )
    try:
        return loader.composed, sweeper.sweep(list(words))
    except ConfigCompositionException as error:
        return loader.composed, error


def test_a_sweeper_composes_each_choice_of_options_once_whatever_the_number_of_jobs(opened):
    composed, [jobs] = swept(opened, "lr=1,2,3", "model=small,large", "seed=range(3)")
    expected = [lr * width for lr in (1, 2, 3) for width in (4, 8) for _ in range(3)]
    assert [job.return_value for job in jobs] == expected
    assert composed == [["model=small"], ["model=large"]]


def test_a_word_that_hydra_refuses_is_refused_in_its_words_before_anything_starts(opened, app):
    _, refused = swept(opened, "lr=1,2", "widht=3")
    assert "Could not override 'widht'" in str(refused)
    assert not (app / "sweep").exists()


def test_jobs_come_back_in_order_with_what_they_returned(opened, app):
    context, master = opened

    def task(config):
        if config.lr == 3:
            raise ValueError("three")
        return (config.lr, {1, 2})  # nothing that JSON can hold

    launcher = Multirun(OPTIONS, context, task, master)
    first = launcher.launch([["lr=2"], ["lr=3"], ["lr=1"], ["lr=2"]], 0)
    assert [job.status for job in first] == [
        JobStatus.COMPLETED,
        JobStatus.FAILED,
        *[JobStatus.COMPLETED] * 2,
    ]
    assert [first[i].return_value for i in (0, 2, 3)] == [(2, {1, 2}), (1, {1, 2}), (2, {1, 2})]
    assert first[2].cfg.lr == 1
    assert first[2].overrides == ["lr=1"]
    with pytest.raises(JobFailedError, match="ValueError: three"):
        _ = first[1].return_value
    second = launcher.launch([["lr=5"]], 4)  # a sweeper's next batch
    assert second[0].return_value[0] == 5
    assert len(open_sweep(app / "sweep").runs()) == 4


class Touching:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("signature", ["none", "of another value", "of another run"])
def test_a_pickled_return_that_this_users_own_job_has_not_written_is_not_loaded(
    tmp_path, monkeypatch, signature
):
    mark = tmp_path / "ran"
    data = pickle.dumps(Touching(mark))
    signatures = {"of another value": sign("a", b"other"), "of another run": sign("b", data)}
    forged = {"pickled": base64.b64encode(data).decode(), "signature": signatures.get(signature)}
    record = {**forged, "overrides": [], "working_dir": "", "task_name": "", "saved": None}
    with pytest.raises(UserError, match="pickled, and this user's own job has not written it"):
        Finished("a", record)
    assert not mark.exists()
    monkeypatch.setenv("EMSWEEP_ALLOW_TARGETS", "orchestrator")
    Finished("a", record)
    assert mark.exists()


def test_jobs_that_differ_in_their_seed_only_are_one_cell(opened):
    context, master = opened
    configs = Configurations(context.config_loader, master)
    overrides = [(f"lr={lr}", f"seed={seed}") for lr in (1, 2) for seed in (0, 1, 2)]
    jobs = [Job(overrides=o, words=configs.words(o), content=configs.content(o)) for o in overrides]
    manifest, _ = manifest_of(jobs, name="app", task="t", resources=ResourcesSpec(), options={})
    assert manifest.num_cells == 2
    assert [axis.key for axis in manifest.axes] == ["lr", "seed"]
    assert list(manifest.seeds) == [0, 1, 2] * 2


@pytest.fixture
def foreign(app):
    """A sweep of something else where the application's would lie."""
    run(app / "sweep", noop_manifest(2))


def test_a_directory_of_another_sweep_is_left_alone(foreign, opened):
    context, master = opened
    with pytest.raises(UserError, match="give another directory"):
        Multirun(OPTIONS, context, lambda config: 1, master).launch([["lr=1"]], 0)


def test_the_console_shows_each_job_and_what_the_application_logs_and_prints(app):
    (app / "app.py").write_text(
        APP.replace("    if cfg.lr", "    print('printed by', cfg.lr)\n    if cfg.lr")
    )
    said = multirun(app, "lr=1,2", "seed=3")
    assert "[HYDRA] \t#0 : lr=1 seed=3\n" in said
    assert "[HYDRA] \t#1 : lr=2 seed=3\n" in said
    assert said.count("[app][INFO] - width 4\n") == 2
    assert [said.count(f"printed by {lr}\n") for lr in (1, 2)] == [1, 1]
    assert "=== run" not in said
    assert "#0 : lr=1 seed=3 (has its result already)" in multirun(app, "lr=1,2", "seed=3")


def test_a_failing_jobs_own_traceback_is_shown_and_nothing_of_ours_or_hydras(app):
    (app / "app.py").write_text(
        APP.replace("        raise Arith", "        deeper(cfg)\n        raise Arith") + ""
    )
    (app / "app.py").write_text(
        (app / "app.py")
        .read_text()
        .replace("@hydra.main", "def deeper(cfg):\n    return {}['key']\n\n@hydra.main")
    )
    said = multirun(app, "lr=1,2", "bad=2", code=1)
    assert "Error executing job with overrides: ['lr=2', 'bad=2']" in said
    shown = said.partition("Error executing job with overrides")[2]
    frames = [line for line in shown.splitlines() if line.startswith("  File ")]
    assert [Path(frame.split('"')[1]).name for frame in frames] == ["app.py", "app.py"]
    assert "KeyError: 'key'" in shown


def test_a_pool_that_is_none_is_one_line_with_the_nearest_name(app):
    said = multirun(app, "lr=1", "hydra.launcher.pool=rai", code=2)
    assert "error: pool 'rai': choose one of" in said
    assert '(did you mean "ray"?)' in said
    assert "Traceback" not in said


def test_a_second_attempt_finds_none_of_the_first_ones_files_which_are_kept(app):
    (app / "app.py").write_text(
        APP.replace(
            "    global calls\n",
            "    from pathlib import Path\n"
            "    from hydra.core.hydra_config import HydraConfig\n"
            "    mine = Path(HydraConfig.get().runtime.output_dir) / 'mine'\n"
            "    assert not mine.exists()\n"
            "    mine.touch()\n"
            "    if not Path('tried').exists():\n"
            "        Path('tried').touch()\n"
            "        raise ConnectionError('lost')\n"
            "    global calls\n",
        )
    )
    multirun(app, "lr=1")
    [first] = app.glob("multirun/*/*/0.attempt_0/mine")
    assert (first.parent.with_name("0") / "mine").exists()
    assert list(open_sweep(app / "outputs" / "app").runs()["attempt"]) == [1]


def test_only_a_folder_that_a_run_has_had_to_itself_is_moved(tmp_path):
    own, shared, strange = (tmp_path / name for name in ("own", "shared", "strange"))
    strange.mkdir()
    (strange / "data").touch()
    for run_id in ("a", "b"):
        assert begin_attempt(shared, run_id) is None
    assert begin_attempt(shared, "b") is None
    for _ in range(2):
        assert begin_attempt(strange, "a") is None
    assert (strange / "data").exists()
    assert begin_attempt(own, "a") is None
    assert [begin_attempt(own, "a") for _ in range(2)] == [
        tmp_path / "own.attempt_0",
        tmp_path / "own.attempt_1",
    ]


VALUES = {
    "np.float32": lambda: np.float32(0.5),
    "tensor": lambda: torch.tensor(0.25),
    "tuple": lambda: (1.5, 2),
    "dict": lambda: {"loss": 0.5, "deep": {"a": [1, 2]}},
    "text": lambda: "words",
    "none": lambda: None,
}


def test_whatever_a_task_returns_reaches_the_sweeper_as_it_is(opened):
    context, master = opened
    launcher = Multirun(OPTIONS, context, lambda config: VALUES[config.labels[0]](), master)
    jobs = launcher.launch([[f"labels=[{kind}]"] for kind in VALUES], 0)
    for job, made in zip(jobs, VALUES.values(), strict=True):
        assert job.return_value == made()
        assert type(job.return_value) is type(made())


COLLIDING = """
import hydra
{imports}

@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    {inside}
    from emsweep import report
    report(0, half=cfg.x / 2)
    return {{"found": {value}}}

main()
"""


def colliding(folder: Path, name: str, imports: str = "", inside: str = "pass", value: str = "1") -> None:
    (folder / name).mkdir()
    (folder / name / "__init__.py").touch()
    (folder / name / "own.py").write_text("NUMBER = 7\n")
    (folder / "app.py").write_text(COLLIDING.format(imports=imports, inside=inside, value=value))


def test_an_application_with_a_package_named_analysis_works_with_its_own(tmp_path):
    colliding(tmp_path, "analysis", "from analysis.own import NUMBER", value="NUMBER")
    multirun(tmp_path, "+x=1,2", "hydra.launcher.directory=out")
    sweep = open_sweep(tmp_path / "out")
    assert list(sweep.runs()["found"]) == [7, 7]
    assert sorted(sweep.steps()["half"]) == [0.5, 1.0]


@pytest.mark.parametrize("name", ["sweeps", "trainers", "orchestrator"])
def test_a_package_that_the_application_imported_in_our_place_is_named_before_anything_runs(tmp_path, name):
    colliding(tmp_path, name, f"import {name}.own")
    said = multirun(tmp_path, "+x=1", "hydra.launcher.directory=out", code=2)
    assert f"error: {tmp_path / name}: has the name of one of emsweep's packages, {name}" in said
    assert "rename it" in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_a_package_that_a_job_would_import_is_named_at_the_start_and_in_the_jobs_error(tmp_path):
    colliding(tmp_path, "trainers", inside="from trainers.own import NUMBER", value="NUMBER")
    said = multirun(tmp_path, "+x=1", "hydra.launcher.directory=out", code=1)
    place = tmp_path / "trainers"
    assert f"note: {place}: is passed over" in said
    [error] = open_sweep(tmp_path / "out").runs()["error"]
    assert "No module named 'trainers.own'" in error
    assert f"{place}: is passed over, for emsweep has a package trainers of its own; rename it" in error


BATCHES = """
import logging
import os
import hydra

calls = 0

@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    global calls
    calls += 1
    return {"calls": calls, "pid": os.getpid()}

main()
"""


def test_the_batches_of_a_sweeper_find_the_workers_warm(tmp_path):
    (tmp_path / "app.py").write_text(BATCHES)
    multirun(tmp_path, "+x=1,2,3,4", "hydra.sweeper.max_batch_size=1", "hydra.launcher.directory=out")
    runs = open_sweep(tmp_path / "out").runs()
    assert sorted(runs["calls"]) == [1, 2, 3, 4]
    assert runs["pid"].nunique() == 1
    assert not Path(f"/proc/{int(runs['pid'].iloc[0])}").exists()


PRUNED = """
import time
import hydra
from emsweep import report

@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    for step in range(1, 4):
        if report(step, score=cfg.height * step).stop:
            break
        time.sleep(0.7)
    return {"score": cfg.height * step}

if __name__ == "__main__":
    main()
"""


def test_jobs_that_do_badly_are_stopped_where_that_is_asked_for(tmp_path):
    (tmp_path / "app.py").write_text(PRUNED)
    prune = "hydra.launcher.prune={kind: asha, metric: score, direction: max, reduction: 2}"
    multirun(tmp_path, "+height=2,1", prune)
    runs = open_sweep(tmp_path / "outputs" / "app").runs().set_index("height")
    assert runs["outcome"].to_dict() == {2: "done", 1: "stopped"}
    assert runs["score"][2] == 6
    said = multirun(tmp_path, "+height=2,1", "hydra.launcher.prune={kind: asha}", code=1)
    assert "give the pruner, the metric that jobs report and its better end" in said
