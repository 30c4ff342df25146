from __future__ import annotations

import json
import subprocess
import sys

import pandas as pd
import pytest

from orchestrator.cli import main
from tests.analysis.synthetic import quickstart_world, write_sweep


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return write_sweep(tmp_path_factory.mktemp("cli") / "quickstart", quickstart_world(num_items=40))


def test_table_prints_rows_by_the_axes_asked_for(directory, capsys):
    assert main(["table", str(directory), "--by", "model,optim.lr", "--metric", "accuracy_sampled"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("tiny-") for line in lines) == 8


def test_table_prints_one_json_object(directory, capsys):
    assert main(["table", str(directory), "lr>=1e-4", "--by", "lr", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [row["optim.lr"] for row in answer["rows"]] == [1e-4, 2e-4, 1e-3]
    assert answer["notes"]


def test_table_writes_a_file_of_the_form_its_name_says(directory, tmp_path):
    assert main(["table", str(directory), "--output", str(tmp_path / "t.parquet")]) == 0
    assert len(pd.read_parquet(tmp_path / "t.parquet")) == 24


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--metric", "acuracy_sampled"], "accuracy_sampled"),
        (["--by", "modle"], "model"),
        (["lr=7"], "1e-4"),
        (["--format", "xlsx"], "latex"),
        (["--format", "parquet"], "--output"),
    ],
)
def test_bad_input_is_one_message_and_status_2(directory, capsys, arguments, word):
    assert main(["table", str(directory), *arguments]) == 2
    streams = capsys.readouterr()
    assert streams.err.startswith("error: ")
    assert word in streams.err
    assert streams.out == ""


@pytest.mark.slow
def test_mirror_counts_new_and_already(tmp_path):
    pytest.importorskip("wandb")
    axes = {"model": ("tiny-64",), "example": ("carry",), "optim.lr": (1e-4,), "seed": (0, 1)}
    directory = write_sweep(tmp_path / "two", quickstart_world(axes=axes, num_items=4))
    # In a process of its own, for it gives way to all others, and so would the tests after this one.
    command = [sys.executable, "-m", "orchestrator.cli", "mirror", str(directory), "--offline", "--json"]
    answers = [json.loads(subprocess.check_output(command)) for _ in range(2)]
    assert answers == [{"new": 2, "already": 0}, {"new": 0, "already": 2}]


def test_compare_prints_a_table_and_a_sentence(directory, capsys):
    assert main(["compare", str(directory), "optim.lr=1e-4", "optim.lr=2e-4"]) == 0
    out = capsys.readouterr().out
    assert "4 matched seeds" in out.splitlines()[-1]


def test_compare_of_an_axis_compares_all_its_values(directory, capsys):
    assert main(["compare", str(directory), "lr", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert len(answer["rows"]) == len(answer["sentences"]) == 3


@pytest.mark.parametrize("sides", [["lr=1e-4"], ["lr=1e-4", "lr=9"], ["lrr"]])
def test_compare_refuses_bad_sides(directory, capsys, sides):
    assert main(["compare", str(directory), *sides]) == 2
    assert "error" in capsys.readouterr().err.lower()


def test_report_writes_one_file_into_the_directory(directory, capsys):
    assert main(["report", str(directory), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    page = directory / "report.html"
    assert answer == {"path": str(page), "bytes": page.stat().st_size}
