import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli import main
from orchestrator.cli.completing import SHELLS
from tests.orchestrator.sweeping import noop_manifest, run


def completed(line, capsys):
    assert main(["complete", line]) == 0
    return capsys.readouterr().out.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("emsweep pl", ["plan"]),
        ("emsweep plan sweep=quick", ["sweep=quickstart"]),
        ("emsweep launch model=tiny-64-g", ["model=tiny-64-gemma", "model=tiny-64-gpt-neox"]),
        ("emsweep plan model=tiny-32,tiny-64-h", ["model=tiny-32,tiny-64-hasty"]),
        ("emsweep plan sweep=quickstart optim.l", ["optim.lr="]),
        ("emsweep plan cluster.num", ["cluster.num_workers="]),
        ("emsweep plan nothing=", []),
        ("emsweep plan 'open", []),
        ("emsweep plan --js", ["--json"]),
        ("emsweep launch --pool in", ["inline"]),
        ("emsweep launch --pool inline sweep=quick", ["sweep=quickstart"]),
        ("emsweep completion ", ["bash", "zsh", "fish"]),
        ("emsweep nothing --", []),
    ],
)
def test_the_shell_is_told_how_a_line_could_go_on(line, expected, capsys):
    assert completed(line, capsys) == expected


def test_directories_runs_axes_and_sweep_files_are_offered(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert completed("emsweep status ", capsys) == []
    (tmp_path / "mine.yaml").touch()
    assert completed("emsweep plan sweep=mi", capsys) == ["sweep=mine.yaml"]
    manifest = noop_manifest(3)
    run(tmp_path / "outputs" / "noop", manifest)
    assert completed("emsweep status out", capsys) == ["outputs/noop"]
    assert completed("emsweep launch --dir ", capsys) == ["outputs/noop"]
    assert completed("emsweep status outputs/noop --r", capsys) == ["--run"]
    first = manifest.run_ids[0]
    for line in ("status outputs/noop --run", "log outputs/noop --run", "replay outputs/noop"):
        assert completed(f"emsweep {line} {first[:6]}", capsys) == [first]
    assert completed("emsweep rerun outputs/noop --failed seed=", capsys) == ["seed=0", "seed=1", "seed=2"]
    assert completed("emsweep status nowhere --run ", capsys) == []


def test_every_verb_is_offered_but_the_one_that_offers(capsys):
    assert {"plan", "launch", "status", "completion"} <= set(completed("emsweep ", capsys))
    assert "complete" not in completed("emsweep ", capsys)


def test_a_real_bash_completes(tmp_path):
    (tmp_path / "emsweep").symlink_to(Path(sys.executable).parent / "emsweep")
    script = f'{SHELLS["bash"]}\nCOMP_LINE="emsweep plan sweep=horiz"; _emsweep; echo "${{COMPREPLY[@]}}"'
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, env=os.environ | {"PATH": path}, check=False
    )
    assert done.stdout.strip() == "sweep=horizons"


def test_completion_prints_the_lines_of_a_shell_and_refuses_others(capsys):
    assert main(["completion", "bash"]) == 0
    assert "complete -o nospace" in capsys.readouterr().out
    assert main(["completion", "tcsh"]) == 2
    assert "choose one of bash, zsh, fish" in capsys.readouterr().err


def test_the_composed_configuration_can_be_shown(capfd):
    assert main(["plan", "sweep=quickstart", "optim.lr=3e-4", "model=tiny-64,tiny-96", "--cfg", "job"]) == 0
    shown = capfd.readouterr().out
    assert "lr: 0.0003" in shown
    assert "about:" in shown


def test_how_it_was_composed_can_be_shown(capfd, tmp_path):
    assert main(["plan", "sweep=quickstart", "--info", "searchpath", "--config-dir", str(tmp_path)]) == 0
    assert str(tmp_path) in capfd.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--cfg", "jobs"], "choose one of job, hydra, all"),
        (["--info", "x"], "choose one of all, config"),
        (["--config-dir", "/nowhere"], "no such folder"),
        (["--cfg", "job", "optim.lrr=1"], "optim.lr"),
    ],
)
def test_a_wrong_flag_is_refused_with_its_choices(words, message, capsys):
    assert main(["plan", "sweep=quickstart", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_of_sweeps_is_planned_by_name(tmp_path, capsys):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "ours.yaml").write_text("# @package _global_\nsweep: {axes: {seed: [1, 2]}}\n")
    assert main(["plan", "sweep=ours", "--config-dir", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == 2


def test_schedules_are_drawn_here_and_beside_the_directory_which_planning_leaves_alone(tmp_path, capsys):
    pytest.importorskip("altair", reason="figures need the extra `figures`")
    words = ["plan", "schedule=linear,rex", "--dir", str(tmp_path / "mine"), "--show-schedules"]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if "█" in line] == ["linear", "rex"]
    assert [p.name for p in tmp_path.iterdir()] == ["mine-schedules.svg"]
    assert main([*words, "--json"]) == 0
    drawn = json.loads(capsys.readouterr().out)["schedules"]
    assert drawn[0]["multipliers"][:2] == pytest.approx([1.0, 0.9])
