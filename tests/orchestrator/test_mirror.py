from __future__ import annotations

import json
import shutil

import pytest

from orchestrator.errors import UserError
from orchestrator.mirror import mirror_sweep
from tests.analysis.synthetic import quickstart_world, write_sweep
from tests.benchmarks.wandb_file import read_wandb_file

wandb = pytest.importorskip("wandb")


@pytest.fixture
def directory(tmp_path):
    axes = {"model": ("tiny-64",), "example": ("carry",), "optim.lr": (1e-4, 1e-3), "seed": (0, 1, 2)}
    return write_sweep(tmp_path / "small", quickstart_world(axes=axes, num_items=8, failed=0.2, rng_seed=3))


def _offline(directory):
    return sorted((directory / "wandb").glob("offline-run-*/*.wandb"))


def test_every_finished_run_is_copied_exactly_once(directory):
    first = mirror_sweep(directory, project="p")
    finished = first.new
    assert 0 < finished < 6  # one failed: only results are mirrored
    assert first.already == 0
    assert len(_offline(directory)) == finished
    second = mirror_sweep(directory, project="p")
    assert (second.new, second.already) == (0, finished)
    assert len(_offline(directory)) == finished


def test_a_call_that_died_is_resumed_without_doubling(directory):
    total = mirror_sweep(directory, project="p").new
    ledger = directory / "wandb" / "mirrored.txt"
    lines = ledger.read_text().splitlines()
    ledger.write_text("\n".join(lines[:2]) + "\n")  # as if killed while the third was open
    again = mirror_sweep(directory, project="p")
    assert (again.new, again.already) == (total - 2, 2)
    assert len(_offline(directory)) == total


def test_a_copy_holds_group_tags_configuration_history_and_summary(directory):
    mirror_sweep(directory, project="p")
    records = list(read_wandb_file(_offline(directory)[0]))
    run = next(r.run for r in records if r.WhichOneof("record_type") == "run")
    assert run.run_group.startswith("cell ")
    assert any(tag.startswith("optim.lr=") for tag in run.tags)
    config = {c.key: json.loads(c.value_json) for c in run.config.update}
    assert config["axes"]["model"] == "tiny-64"
    assert config["optim"]["lr"] == config["axes"]["optim.lr"]
    history = [r.history for r in records if r.WhichOneof("record_type") == "history"]
    assert len(history) == 11


def test_no_key_is_written(directory, monkeypatch):
    secret = "0123456789abcdef0123456789abcdef01234567"
    monkeypatch.setenv("WANDB_API_KEY", secret)
    mirror_sweep(directory, project="p")
    for path in (directory / "wandb").rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path


def test_progress_is_reported_run_by_run(directory):
    seen = []
    total = mirror_sweep(directory, project="p", progress=lambda done, of: seen.append((done, of))).new
    assert seen == [(k, total) for k in range(1, total + 1)]


def test_a_directory_that_is_no_sweep_is_refused(tmp_path):
    shutil.rmtree(tmp_path / "absent", ignore_errors=True)
    with pytest.raises(UserError, match="does not exist"):
        mirror_sweep(tmp_path / "absent", project="p")
