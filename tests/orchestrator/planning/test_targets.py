from __future__ import annotations

import pytest

from orchestrator.planning.targets import check_targets
from sweeps.compose import compose_sweep
from sweeps.manifest.build import build_manifest
from sweeps.spec.errors import UserError


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A package whose import would fail, a file that names one of its classes, and the folder they are in."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "mine" / "loops.py").write_text("import os as system\nclass Loop: ...\nOther = Loop\n")
    (tmp_path / "loops.yaml").write_text(
        "# @package _global_\ntrainer: {_target_: mine.loops.Loop}\nsweep: {axes: {seed: range(2)}}\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sweep_of(*words):
    return build_manifest(compose_sweep(words))


def test_a_file_may_name_our_own_trainers_only(project):
    check_targets(sweep_of("sweep=noop"), environment={})
    with pytest.raises(UserError, match="add --allow-target mine"):
        check_targets(sweep_of("sweep=loops.yaml"), environment={})


@pytest.mark.parametrize(
    ("allowed", "environment"),
    [(["mine"], {}), (["mine.loops"], {}), ([], {"EMSWEEP_ALLOW_TARGETS": "others, mine"})],
)
def test_whoever_launches_may_allow_a_package(project, allowed, environment):
    check_targets(sweep_of("sweep=loops.yaml"), allowed, environment)


def test_a_package_is_no_prefix_of_a_longer_name(project):
    with pytest.raises(UserError, match="allow-target"):
        check_targets(sweep_of("sweep=loops.yaml"), ["min", "mine.loop"], {})


@pytest.mark.parametrize("key", ["trainer.target", "trainer._target_"])
def test_naming_the_target_on_the_command_line_is_permission(project, key):
    check_targets(sweep_of("sweep=noop", f"{key}=mine.loops.Other"), environment={})


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("mine.loops.Lop", "has no 'Lop' \\(did you mean \"Loop\""),
        ("mine.lops.Loop", "no module 'mine.lops'"),
        ("nobody.Loop", "no module 'nobody'"),
        ("Loop", "give module.Class"),
    ],
)
def test_what_is_not_there_is_told_before_anything_is_imported(project, target, message):
    with pytest.raises(UserError, match=message):
        check_targets(sweep_of("sweep=noop", f"trainer.target={target}"), environment={})


def test_a_target_may_lie_in_a_package_without_an_init_file(project):
    folder = project / "plain" / "deep"
    folder.mkdir(parents=True)
    (folder / "loops.py").write_text("class Loop: ...\n")
    check_targets(sweep_of("sweep=noop", "trainer.target=plain.deep.loops.Loop"), environment={})
