import json
from pathlib import Path

import pytest

from orchestrator.cli import main

MATH500 = Path(__file__).parents[4] / "shared" / "data" / "math500.jsonl"


def test_select_prints_what_it_picked_and_how_to_train_on_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("pool.jsonl").write_text('{"problem": "1"}\n{"problem": "333"}\n{"problem": "22"}\n')
    assert main(["select", "pool.jsonl", "--by", "length", "--top", "2", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [row["problem"] for row in answer["picked"]] == ["333", "22"]
    assert answer["use"] == "example=file example.path=pool-by-length.jsonl example.rows=[0],[1]"
    assert Path("pool-by-length.jsonl").is_file()
    assert main(["select", "pool.jsonl", "--by", "length", "--lowest", "--top", "1"]) == 0
    assert "length: 1 of 3 problems" in capsys.readouterr().out


def test_a_wrong_rule_is_bad_input(tmp_path, capsys):
    assert main(["select", str(tmp_path / "pool.jsonl"), "--by", "lenght"]) == 2
    assert 'did you mean "length"' in capsys.readouterr().err


@pytest.mark.skipif(not MATH500.is_file(), reason="needs math500.jsonl beside the project")
def test_the_longest_problems_of_a_benchmark_are_picked(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["select", str(MATH500), "--by", "length", "--top", "5", "--json"]) == 0
    picked = json.loads(capsys.readouterr().out)["picked"]
    lengths = [len(json.loads(line)["problem"]) for line in MATH500.read_text().splitlines()]
    assert [row["score"] for row in picked] == sorted(lengths, reverse=True)[:5]
