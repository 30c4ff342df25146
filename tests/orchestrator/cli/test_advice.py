"""Whatever is printed as the next thing to type changes something, in every state that a sweep ends in."""

from __future__ import annotations

import json
import shlex

import pytest

from orchestrator.cli import main
from orchestrator.store.advice import next_steps
from tests.orchestrator.trainers import HERE


@pytest.fixture
def launched(tmp_path, capsys):
    """Launches a small sweep in this process and returns what its last words were."""

    def launch(*words, verb="launch"):
        capsys.readouterr()
        start = ["launch", "sweep=noop"] if verb == "launch" else [verb]
        where = ["--dir", str(tmp_path / "s")] if verb == "launch" else [str(tmp_path / "s")]
        code = main(
            [
                *start,
                *words,
                *where,
                *([] if verb in ("verify", "repair", "status", "cancel") else ["--pool", "inline"]),
            ]
        )
        said = capsys.readouterr()
        return code, said.out + said.err

    return launch


def commands(text):
    """The emsweep commands that a text tells to type, tables left out."""
    found = []
    for line in text.splitlines():
        _, at, command = line.partition("emsweep ")
        if at and command.split()[0] not in ("table",):
            found.append(shlex.split(command, comments=True))
    return found


def faulty(every):
    return f"trainer.target={HERE}.Faulty", f"+trainer.params.every={every}"


def test_after_a_quarantine_resume_is_not_advised_but_the_log_and_rerun(launched, tmp_path, capsys):
    for verb, words in (("launch", ("sweep.n=8", *faulty(3))), ("resume", ())):
        code, text = launched(*words, verb=verb)
        assert code == 1
        log, rerun = commands(text)
        assert (log[0], rerun[0], rerun[2]) == ("log", "rerun", "--failed")
    assert main(log) == 0
    events = [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()]
    assert {"failure", "traceback", "settle"} <= set(events)
    assert main([*rerun, "--pool", "inline"]) == 1
    assert "3 of 8 runs get another chance" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["status", "verify", "repair"])
def test_whoever_looks_at_a_quarantine_is_told_the_same(launched, verb):
    launched("sweep.n=8", *faulty(3))
    code, text = launched(verb=verb)
    assert code == (0 if verb == "status" else 1)
    assert "resume" not in [command[0] for command in commands(text)]
    assert "rerun" in [command[0] for command in commands(text)]
    assert "not whole" not in text


def test_when_the_first_runs_all_fail_alike_the_rest_is_run_with_them_once_mended(launched, capsys):
    code, text = launched("sweep.n=20", *faulty(1))
    assert code == 1
    assert "stopped early: the first runs all failed alike, and 16 were held back" in text
    told = commands(text)
    assert [command[0] for command in told] == ["log", "rerun"]
    assert [command[0] for command in commands(launched(verb="status")[1]) if command[0] == "resume"] == []
    assert main([*told[1], "--pool", "inline"]) == 1
    assert "20 of 20 runs get another chance" in capsys.readouterr().err


def test_an_interrupted_sweep_is_resumed_and_then_nothing_is_left_to_type(launched, tmp_path, capsys):
    code, text = launched("sweep.n=6", "+trainer.params.duration_s=0.5", "--until", "2s")
    assert code == 130
    assert "finish it with: emsweep resume" in text
    told = [command for command in commands(text) if command[0] == "resume"]
    assert told
    assert main([*told[0], "--pool", "inline"]) == 0
    assert commands(capsys.readouterr().out) == []
    code, text = launched(verb="verify")
    assert (code, commands(text)) == (0, [])


def test_a_cancelled_sweep_is_not_resumed_but_can_be_had_after_all(launched, tmp_path, capsys):
    launched("sweep.n=6", "+trainer.params.duration_s=0.5", "--until", "2s")
    _, text = launched(verb="cancel")
    [again] = commands(text)
    assert again[0::2] == ["rerun", "--incomplete"]
    assert commands(launched(verb="status")[1]) == []
    assert main([*again, "--pool", "inline"]) == 0
    assert "another chance" in capsys.readouterr().err


def test_json_has_the_commands_too(launched):
    _, text = launched("sweep.n=8", *faulty(3), "--json")
    assert [c.split()[1] for c in json.loads(text)["next"]] == ["log", "rerun"]
    assert [s["command"].split()[1] for s in json.loads(launched("--json", verb="status")[1])["next"]] == [
        "log",
        "rerun",
    ]


@pytest.mark.parametrize(
    ("counts", "held_back", "verbs"),
    [
        ({"done": 4}, False, []),
        ({"done": 4, "cancelled": 2}, False, []),
        ({"done": 4, "pending": 2}, False, ["resume"]),
        ({"done": 4, "pending": 2, "failed": 1}, False, ["resume", "log", "rerun"]),
        ({"quarantined": 4, "pending": 2}, True, ["log", "rerun"]),
        ({"quarantined": 4, "pending": 2, "cancelled": 1}, True, ["log", "rerun"]),
    ],
)
def test_each_state_has_its_steps(counts, held_back, verbs):
    steps = next_steps("a dir", counts, held_back=held_back)
    assert [step.command.split()[1] for step in steps] == verbs
    assert all(shlex.split(step.command)[2] == "a dir" for step in steps)
