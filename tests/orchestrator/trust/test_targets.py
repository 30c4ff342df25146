from __future__ import annotations

import pytest

from orchestrator.trust.targets import metrics_of_classes, require_targets
from sweeps.compose import compose_sweep
from sweeps.manifest.build import build_manifest
from sweeps.spec.errors import UserError


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A package whose import would fail, and the folder it is in."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "mine" / "loops.py").write_text("import os as system\nclass Loop: ...\nOther = Loop\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sweep_of(*words):
    return build_manifest(compose_sweep(words))


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
        require_targets(sweep_of("sweep=noop", f"trainer.target={target}"))


def test_a_target_may_lie_in_a_package_without_an_init_file(project):
    folder = project / "plain" / "deep"
    folder.mkdir(parents=True)
    (folder / "loops.py").write_text("class Loop: ...\n")
    require_targets(sweep_of("sweep=noop", "trainer.target=plain.deep.loops.Loop"))


def test_a_module_inside_the_sweep_directory_is_not_found(project):
    require_targets(sweep_of("sweep=noop", "trainer.target=mine.loops.Loop"), project / "outputs")
    with pytest.raises(UserError, match=r"no module 'mine\.loops'"):
        require_targets(sweep_of("sweep=noop", "trainer.target=mine.loops.Loop"), project)


def test_a_class_says_what_its_metrics_are_and_is_not_imported_for_it(project):
    (project / "mine" / "loops.py").write_text(
        "raise RuntimeError('imported')\n"
        "class Loop:\n"
        "    metrics = {'rmse': {'direction': 'min', 'unit': 'm', 'range': (0, 10)}}\n"
    )
    said = metrics_of_classes(sweep_of("sweep=noop", "trainer.target=mine.loops.Loop"))
    assert said == {"rmse": {"direction": "min", "unit": "m", "range": [0, 10]}}
    assert metrics_of_classes(sweep_of("sweep=noop")) == {}


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("make()", r"mine\.loops\.Loop\.metrics: must be a literal"),
        ("{'a': {'direction': 1}}", "direction=1"),
    ],
)
def test_what_a_class_cannot_mean_by_its_metrics_is_refused(project, written, message):
    (project / "mine" / "loops.py").write_text(f"class Loop:\n    metrics: dict = {written}\n")
    with pytest.raises(UserError, match=message):
        metrics_of_classes(sweep_of("sweep=noop", "trainer.target=mine.loops.Loop"))
