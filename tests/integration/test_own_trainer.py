"""Training code that is not ours: in a project of its own, through the real command line."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from analysis import open_sweep
from orchestrator.cli import main
from trainers import protocol

EMSWEEP = Path(sys.executable).with_name("emsweep")

TORCH_LOOP = '''
import os, signal
import torch
from trainers.protocol import RunResult

class Line:
    """Fits y = 3x + 1; seed 0 at the lower rate is killed half way."""

    def __init__(self, context):
        torch.set_num_threads(1)
        self.num_runs = 0

    def run(self, spec, context):
        self.num_runs += 1
        torch.manual_seed(spec.seed)
        model = torch.nn.Linear(1, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=spec.optim.lr, momentum=0.9)
        x = torch.linspace(-1, 1, 32)[:, None]
        state, first, rows = context.checkpoint_dir / "state.pt", 1, []
        if state.exists():
            saved = torch.load(state)
            model.load_state_dict(saved["model"]), optimizer.load_state_dict(saved["optimizer"])
            first, rows = saved["step"] + 1, saved["rows"]
        for step in range(first, spec.steps + 1):
            loss = ((model(x) - (3 * x + 1)) ** 2).mean()
            optimizer.zero_grad(), loss.backward(), optimizer.step()
            rows.append({"step": step, "loss": loss.item()})
            state.parent.mkdir(parents=True, exist_ok=True)
            saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            saved |= {"rows": rows, "step": step}
            torch.save(saved, state)
            if spec.trainer.params["kill"] and (spec.optim.lr, spec.seed, first, step) == (0.1, 0, 1, 3):
                os.kill(os.getpid(), signal.SIGKILL)
        found = {"loss": rows[-1]["loss"], "first_step": first, "nth_of_worker": self.num_runs}
        return RunResult(outcome="done", metrics=found, steps=rows)

    def close(self):
        pass
'''
LINES_YAML = """
# @package _global_
trainer: {target: lines.Line, params: {kill: true}}
resources: {save_every_steps: 1}
steps: 6
sweep:
  axes: {optim.lr: [0.1, 0.3], seed: range(4)}
"""


def emsweep(project: Path, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "100"}
    done = subprocess.run(
        [EMSWEEP, *words], cwd=project, env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def documented() -> tuple[str, str]:
    """The trainer and the sweep file that the protocol's documentation shows."""
    blocks = inspect.cleandoc(protocol.__doc__).split("::\n\n")[1:]
    return tuple(textwrap.dedent("\n".join(_indented(block))) + "\n" for block in blocks)  # type: ignore[return-value]


def _indented(block: str) -> list[str]:
    lines = block.splitlines()
    end = next((i for i, line in enumerate(lines) if line and not line.startswith("    ")), len(lines))
    return lines[:end]


@pytest.fixture(scope="module")
def forests(tmp_path_factory) -> Path:
    """A project with the documented trainer, its sweep launched."""
    pytest.importorskip("sklearn")
    project = tmp_path_factory.mktemp("project")
    trainer, sweep = documented()
    (project / "forests.py").write_text(trainer)
    (project / "forests.yaml").write_text(sweep)
    words = ("launch", "sweep=forests.yaml", "--allow-target", "forests", "--pool", "local", "--json")
    answer = json.loads(emsweep(project, *words).stdout)
    assert (answer["expected"], answer["committed"], answer["failed"]) == (6, 6, 0)
    return project


def test_the_documented_trainer_is_in_the_tables_under_its_own_metric(forests):
    shown = emsweep(forests, "table", "outputs/forests").stdout
    assert shown.splitlines()[0] == "accuracy by trainer.params.max_depth"
    sweep = open_sweep(forests / "outputs/forests")
    means = sweep.cells(by=["trainer.params.max_depth"]).set_index("trainer.params.max_depth")["mean"]
    assert means[8] > means[2] > 0.3
    assert len(sweep.steps()) == 6 * 3


def test_the_documented_trainer_replays_and_verifies(forests):
    run_id = open_sweep(forests / "outputs/forests").runs()["run_id"].iloc[0]
    assert json.loads(emsweep(forests, "replay", "outputs/forests", run_id, "--json").stdout)["equal"]
    assert json.loads(emsweep(forests, "verify", "outputs/forests", "--json").stdout)["ok"]


def test_the_documented_trainer_has_a_report(forests):
    assert main(["report", str(forests / "outputs/forests")]) == 0
    [page] = (forests / "outputs/forests").glob("*.html")
    assert "max_depth" in page.read_text()


def test_a_wider_grid_runs_only_what_is_new(forests):
    words = ("launch", "sweep=forests.yaml", "seed=range(4)", "--allow-target", "forests", "--json")
    answer = json.loads(emsweep(forests, *words, "--pool", "inline").stdout)
    assert (answer["expected"], answer["new"]) == (8, 2)


@pytest.mark.slow
def test_a_plain_torch_loop_is_warm_and_resumes_from_its_own_state(tmp_path):
    (tmp_path / "lines.py").write_text(TORCH_LOOP)
    options = tmp_path / "conf" / "sweep"
    options.mkdir(parents=True)
    (options / "lines.yaml").write_text(LINES_YAML)
    words = ("launch", "--config-dir", "conf", "sweep=lines", "--allow-target", "lines")
    emsweep(tmp_path, *words, "--pool", "local", "cluster.num_workers=1")
    calm_words = ("trainer.params.kill=false", "--pool", "inline", "--dir", "outputs/calm")
    emsweep(tmp_path, *words, *calm_words)
    killed = open_sweep(tmp_path / "outputs/lines")
    calm = open_sweep(tmp_path / "outputs/calm")
    runs = killed.runs().set_index(["optim.lr", "seed"])
    assert runs.loc[(0.1, 0), "first_step"] == 4
    assert runs.loc[(0.1, 0), "attempt"] >= 1
    assert set(runs.drop((0.1, 0))["first_step"]) == {1}
    assert runs["nth_of_worker"].max() >= 3
    columns = ["optim.lr", "seed", "step", "loss"]
    in_order = [s.steps()[columns].sort_values(columns).reset_index(drop=True) for s in (killed, calm)]
    assert in_order[0].equals(in_order[1])


def test_code_that_only_a_file_names_needs_a_word_of_permission(tmp_path):
    (tmp_path / "lines.py").write_text("raise SystemExit('imported without permission')")
    (tmp_path / "lines.yaml").write_text(LINES_YAML)
    refused = emsweep(tmp_path, "launch", "sweep=lines.yaml", code=2)
    assert "add --allow-target lines" in refused.stderr
    assert not (tmp_path / "outputs").exists()
