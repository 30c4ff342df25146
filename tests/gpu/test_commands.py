"""Sweeps on a GPU through the command line: the quickstart, two workers on one device, a real model's size.

Each test has a half for the CPU, which shows that it would fail for the right reason where there is a GPU.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from analysis import Sweep, open_sweep
from tests.benchmarks.trainer_gpu import make_model
from tests.gpu.devices import also_on_cpu, on_gpu
from tests.gpu.test_cuda import FIRST_LOSS_TOLERANCE

EMSWEEP = Path(sys.executable).with_name("emsweep")

QUICKSTART = ["sweep=quickstart", "model=tiny-32", "example=carry-1", "optim.lr=1e-4", "eval.limit=50"]

ACCURACY_TOLERANCE = 0.1
"""A near tie in a rollout parts two trajectories for good; after ten small steps their models judge alike."""


def emsweep(device: str, *words: object) -> dict:
    """Call a command on a device."""
    hidden = {} if device == "cuda" else {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [EMSWEEP, *map(str, words), "--json"],
        env={**os.environ, **hidden},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def launched(device: str, folder: Path, *words: str) -> Path:
    """A finished sweep."""
    resources = "gpu" if device == "cuda" else "cpu"
    command = ("launch", *words, f"resources={resources}", "--dir", folder, "--pool", "local", "--yes")
    launched_sweep = emsweep(device, *command)
    assert launched_sweep["committed"] == launched_sweep["expected"]
    assert emsweep(device, "verify", folder)["ok"]
    return folder


TWO_WORKERS = ["cluster.num_workers=2", "cluster.canary_hold_s=0", "cluster.batch_s=0"]


@pytest.fixture(scope="module")
def on_cpu(tmp_path_factory):
    """The quickstart's numbers on the CPU."""
    words = [*QUICKSTART, "seed=range(6)", *TWO_WORKERS]
    return open_sweep(launched("cpu", tmp_path_factory.mktemp("cpu") / "q", *words))


def first_losses(sweep: Sweep) -> list[float]:
    """The first step's loss of each seed."""
    return list(sweep.steps().query("step == 1").sort_values("seed")["loss"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("device", "stage", "share"), [also_on_cpu(2, 0), on_gpu(0, 1), on_gpu(2, 1), on_gpu(0, 0.5)]
)
def test_the_quickstart_gives_the_cpus_numbers_within_tolerance(device, stage, share, on_cpu, tmp_path):
    """With half of a GPU each, two workers share the device."""
    words = [*QUICKSTART, "seed=range(6)", f"engine.zero_stage={stage}"]
    words += [f"resources.gpus_per_worker={share}", *(TWO_WORKERS if share < 1 else ())]
    launched_sweep = open_sweep(launched(device, tmp_path / "q", *words))
    assert launched_sweep.runs()["worker"].nunique() == (2 if share < 1 else 1)
    assert first_losses(launched_sweep) == pytest.approx(first_losses(on_cpu), abs=FIRST_LOSS_TOLERANCE)
    for column in ("base_accuracy_greedy", "accuracy_greedy", "accuracy_sampled"):
        ours, theirs = (list(s.runs().sort_values("seed")[column]) for s in (launched_sweep, on_cpu))
        assert ours == pytest.approx(theirs, abs=ACCURACY_TOLERANCE)


@pytest.mark.parametrize(("device", "size"), [also_on_cpu("tiny"), on_gpu("1.5b")])
def test_a_randomly_initialised_model_goes_the_whole_way(device, size, tmp_path):
    make_model(tmp_path / "model", size, torch.device(device))
    words = ["sweep=quickstart", "model=hf", f"model.path={tmp_path}/model", "example=carry-1", "engine=gpu"]
    words += ["optim.lr=1e-6", "seed=range(2)", "steps=2", "eval.steps=[0,2]", "eval.limit=8"]
    words += ["example.format=plain", "eval.format=plain"]
    plan = emsweep(device, "plan", *words)
    assert (plan["runs"], plan["new"]) == (2, 2)
    folder = launched(device, tmp_path / "out", *words)
    losses = open_sweep(folder).steps().query("step > 0")["loss"]
    assert len(losses) == 4
    assert losses.between(0, 20).all()
    [row] = emsweep(device, "table", folder)["rows"]
    assert row["n"] == 2
