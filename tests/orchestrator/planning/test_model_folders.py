"""Models that cannot be used as asked are refused by plan and launch before anything starts."""

from __future__ import annotations

import json

import pytest

from orchestrator.cli import main
from sweeps.spec.errors import EXIT_BAD_INPUT, EXIT_NOT_OK
from tests.benchmarks.bad_folders import make, words
from tests.trainers.worlds import package_file

TINY = package_file("trainers/tiny/models/tiny-64")


@pytest.mark.parametrize("verb", [pytest.param("plan", marks=pytest.mark.slow), "launch"])
def test_a_model_that_lacks_weights_is_refused_before_anything_starts(tmp_path, capsys, verb):
    folder = make(tmp_path, "a layer's weights missing", TINY)
    out = tmp_path / "out"
    assert main([verb, *words(folder), "--dir", str(out), "--json"]) == EXIT_BAD_INPUT
    assert "they would be random" in json.loads(capsys.readouterr().out)["error"]
    assert not out.exists()


def test_check_tells_problems_and_golds_as_one_table(tmp_path, capsys):
    file = tmp_path / "golds.jsonl"
    rows = [{"problem": "1+1=", "answer": "2"}, {"problem": "odd", "answer": "$221,$8$"}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = make(tmp_path, "end of sequence as text", TINY)
    asked = ["model=hf", f"model.path={folder}", "eval=addition", f"eval.path={file}", "eval.pattern=null"]
    assert main(["check", *asked, "eval.digest=null", "--json"]) == EXIT_NOT_OK
    answer = json.loads(capsys.readouterr().out)
    assert not answer["ok"]
    assert [(p["key"], bool(p["rule"]), bool(p["fix"])) for p in answer["problems"]] == [
        ("model.path", True, True),
        ("eval.path", True, True),
    ]
    assert "[2]" in answer["problems"][1]["rule"]


@pytest.mark.slow
def test_check_finds_nothing_wrong_with_what_is_shipped(capsys):
    assert main(["check", "model=tiny-32", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["problems"] == []


@pytest.mark.slow
def test_given_completions_beyond_the_models_positions_are_refused_or_cut(tmp_path, capsys):
    folder = make(tmp_path, "fewer positions than prompt and answer need", TINY)
    asked = ["model=hf", f"model.path={folder}", "data=addition_solved", "objective=sft", "eval=none"]
    given = [*asked, "--dir", str(tmp_path / "out"), "--json"]
    assert main(["plan", *given]) == EXIT_BAD_INPUT
    assert "a prompt with its completion, 13 tokens, passes" in json.loads(capsys.readouterr().out)["error"]
    assert main(["plan", *given, "data.max_tokens=8", "data.overlong=truncate"]) == 0
