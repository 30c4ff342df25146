"""The command as its user meets it: real processes, real Ray, real training, a few runs at a time."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.cli import main
from tests.trainers.worlds import package_file

EMSWEEP = Path(sys.executable).with_name("emsweep")
SHARED_DATA = Path(__file__).parents[3] / "shared" / "data"
SMALL = ["model=tiny-32", "example=carry-1", "optim.lr=1e-4,2e-4", "seed=0,1"]
SMALL += ["eval.limit=20", "eval.steps=[0]"]


def emsweep(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([EMSWEEP, *words], capture_output=True, text=True, timeout=280)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def as_json(*words: str) -> dict:
    return json.loads(emsweep(*words, "--json").stdout)


@pytest.fixture
def here(capsys):
    """Runs a command in this process and returns its JSON object."""

    def call(*words: str) -> dict:
        capsys.readouterr()
        assert main([*words, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return call


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> Path:
    """A sweep of four runs through Ray."""
    directory = tmp_path_factory.mktemp("swept") / "small"
    launched = as_json("launch", "sweep=quickstart", *SMALL, "cluster.num_workers=1", "--dir", str(directory))
    assert (launched["expected"], launched["committed"], launched["failed"]) == (4, 4, 0)
    return directory


def test_verify_finds_one_result_for_every_run(swept, here):
    answer = here("verify", str(swept))
    assert answer["ok"]
    assert (answer["expected"], answer["committed"]) == (4, 4)
    assert (answer["missing"], answer["duplicated"], answer["corrupt"]) == (0, 0, 0)


def test_replay_in_a_cold_process_finds_every_number_equal(swept):
    from analysis import open_sweep

    run_id = open_sweep(swept).runs()["run_id"].iloc[-1]
    answer = as_json("replay", str(swept), run_id)
    assert answer["equal"], answer
    assert answer["max_abs_diff"] == 0


def test_launching_again_finds_nothing_to_do_and_a_wider_grid_runs_only_what_is_new(swept, here):
    again = here("launch", "sweep=quickstart", *SMALL, "--dir", str(swept), "--pool", "inline")
    assert (again["expected"], again["committed"], again["new"]) == (4, 4, 0)
    wider = [word.replace("seed=0,1", "seed=0,1,2") for word in SMALL]
    more = here("launch", "sweep=quickstart", *wider, "--dir", str(swept), "--pool", "inline")
    assert (more["expected"], more["committed"], more["new"]) == (6, 6, 2)


def test_every_pool_gives_the_same_numbers(swept, here, tmp_path):
    from analysis import open_sweep

    here("launch", "sweep=quickstart", *SMALL, "--dir", str(tmp_path / "i"), "--pool", "inline")
    columns = ["accuracy_sampled", "accuracy_greedy", "first_entropy_nats", "last_entropy_nats"]
    ray = open_sweep(swept).runs().set_index("run_id")[columns]
    inline = open_sweep(tmp_path / "i").runs().set_index("run_id")[columns]
    assert inline.equals(ray.loc[inline.index])


def test_an_interrupted_sweep_exits_130_and_resume_finishes_it(here, tmp_path):
    directory = tmp_path / "cut"
    words = ["model=tiny-32", "example=carry-1", "seed=range(8)", "eval.limit=8", "eval.steps=[0]"]
    words += ["cluster.num_workers=1"]
    command = [EMSWEEP, "launch", "sweep=quickstart", *words, "--dir", str(directory), "--pool", "local"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # As in a terminal: a shell's background jobs, tests among them, start with Ctrl-C ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while not any(p.stat().st_size for p in directory.glob("spool/*.jsonl") if "journal" not in p.name):
        assert time.monotonic() < deadline, "no result was spooled"
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, out + err
    resumed = here("resume", str(directory), "--pool", "inline")
    assert resumed["committed"] == resumed["expected"]
    assert here("verify", str(directory))["ok"]


@pytest.mark.slow
def test_a_users_own_model_works(tmp_path):
    model = tmp_path / "my-model"
    shutil.copytree(package_file("trainers/tiny/models/tiny-32"), model)
    words = [
        "model=hf",
        f"model.path={model}",
        "example=carry-1",
        "optim.lr=1e-4",
        "seed=0",
        "steps=2",
        "eval.limit=8",
    ]
    answer = as_json("launch", "sweep=quickstart", *words, "--dir", str(tmp_path / "o"), "--pool", "inline")
    assert answer["committed"] == 1


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="the paper's prompt is not beside this checkout")
def test_the_papers_own_prompt_trains(here, tmp_path):
    words = [
        "model=tiny-32",
        "example=file",
        f"example.path={SHARED_DATA / 'pi1_r128.parquet'}",
        "example.rows=[0]",
        "steps=1",
        "optim.lr=1e-4",
        "seed=0",
        "eval=none",
    ]
    answer = here("launch", "sweep=quickstart", *words, "--dir", str(tmp_path / "p"), "--pool", "inline")
    assert answer["committed"] == 1


def broken_folders(root: Path) -> dict[str, str]:
    """Model folders that cannot be used, and what the message must say."""
    good = package_file("trainers/tiny/models/tiny-32")
    for name in ("no-tokenizer", "pickled"):
        shutil.copytree(good, root / name)
    for file in (root / "no-tokenizer").glob("tok*"):
        file.unlink()
    (root / "pickled" / "model.safetensors").rename(root / "pickled" / "pytorch_model.bin")
    return {
        "no-such": "no such folder",
        "no-tokenizer": "has no tokenizer",
        "pickled": "pickled weights only",
    }


def test_bad_input_is_one_line_exit_2_and_nothing_started(tmp_path, capfd):
    cases = {
        "optim.lrr=1": "optim.lr",
        "model=tiny-65": "tiny-64",
        "optim.lr=": "is empty",
        "optim.lr=0": "above 0",
        "optim.lr=fast": "must be a number",
        "objective.temperature=0": "above 0",
        "steps=0": "at least 1",
        "resources.gpus_per_worker=64": "GPUs",
    }
    calls = [([word], message) for word, message in cases.items()]
    calls += [
        (["model=hf", f"model.path={tmp_path / name}"], message)
        for name, message in broken_folders(tmp_path).items()
    ]
    for words, message in calls:
        assert main(["launch", "sweep=quickstart", *words, "--dir", str(tmp_path / "bad")]) == 2
        out, err = capfd.readouterr()
        lines = err.strip().splitlines()
        assert len(lines) == 1, err
        assert lines[0].startswith("error: ")
        assert message in lines[0], lines[0]
        assert "Traceback" not in out
        assert not (tmp_path / "bad").exists()
    done = emsweep("launch", "sweep=quickstart", "steps=0", "--dir", str(tmp_path / "bad"), code=2)
    assert done.stderr.startswith("error: steps=0: must be at least 1"), done.stderr


def test_help_comes_without_torch_ray_or_hydra():
    script = (
        "import sys; from orchestrator.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'ray', 'hydra', 'pandas', 'transformers'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "COLUMNS": "100"},
    )
    assert "launch" in done.stdout
    assert done.stderr.strip() == "[]"
