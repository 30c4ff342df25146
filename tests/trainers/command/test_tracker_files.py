"""What trackers' own libraries write is read back without them."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import pytest

from trainers.command.tracker_files import EventFiles, OfflineRuns


def test_tensorboards_scalars_are_read_while_the_file_grows(tmp_path):
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    writer, events = SummaryWriter(str(tmp_path / "runs" / "a")), EventFiles(tmp_path)
    writer.add_scalar("train/loss", 0.5, 1)
    writer.add_text("note", "hello", 1)
    writer.flush()
    assert list(events.rows(final=False)) == [(1, {"train/loss": 0.5})]
    writer.add_scalar("train/loss", 0.25, 2)
    writer.add_scalar("new", math.inf, 2, new_style=True)
    writer.close()
    assert list(events.rows(final=True)) == [(2, {"train/loss": 0.25}), (2, {"new": math.inf})]
    assert list(events.rows(final=True)) == []


def test_a_torn_end_of_an_event_file_is_read_once_it_is_whole(tmp_path):
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path / "made")) as writer:
        for step in range(3):
            writer.add_scalar("loss", float(step), step)
    whole = next((tmp_path / "made").iterdir()).read_bytes()
    torn = tmp_path / "torn" / "events.out.tfevents.1"
    torn.parent.mkdir()
    torn.write_bytes(whole[:-5])
    events = EventFiles(torn.parent)
    assert len(list(events.rows(final=False))) == 2
    torn.write_bytes(whole)
    assert list(events.rows(final=True)) == [(2, {"loss": 2.0})]


WANDB = """
import wandb
with wandb.init(project="p", mode="offline", dir=".") as run:
    for step in range(400):
        run.log({"loss": 1 / (step + 1), "eval": {"accuracy": step / 400}, "text": "x" * 200})
    run.summary["best"] = 0.75
"""


def test_an_offline_run_of_wandb_is_read_whole(tmp_path):
    pytest.importorskip("wandb")
    env = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    command = [sys.executable, "-c", WANDB]
    subprocess.run(command, cwd=tmp_path, env=env, check=True, capture_output=True, timeout=120)
    rows = list(OfflineRuns(tmp_path).rows(final=True))
    steps = [row for row in rows if row[0] is not None]
    assert [step for step, _ in steps] == list(range(400))  # more than a block of 32 KiB
    assert steps[3][1]["loss"] == 0.25
    assert steps[3][1]["eval.accuracy"] == 3 / 400
    summary = {k: v for step, row in rows if step is None for k, v in row.items()}
    assert summary["best"] == 0.75
    assert not [name for name in summary if name.startswith("_")]
    assert list(OfflineRuns(tmp_path).rows(final=False)) == []
