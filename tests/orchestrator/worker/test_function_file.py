"""A function is imported from the very file that was hashed."""

from __future__ import annotations

import sys

import pytest

from orchestrator.worker.function_file import import_function
from sweeps.manifest.code_files import resolve_trainer
from sweeps.spec import SpecError, TrainerSpec


@pytest.fixture
def modules(monkeypatch):
    """Leaves the process's modules and import path as they were."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def resolved(target, folder):
    return TrainerSpec(**resolve_trainer({"target": target}, folder))


@pytest.fixture
def project(tmp_path, modules):
    (tmp_path / "own_train.py").write_text("import own_help\ndef train():\n    return own_help.NUMBER\n")
    (tmp_path / "own_help.py").write_text("NUMBER = 5\n")
    return tmp_path


def test_a_function_is_imported_once_and_finds_what_lies_beside_it(project):
    trainer = resolved("own_train:train", project)
    assert import_function(trainer)() == 5
    assert import_function(trainer) is import_function(trainer)


def test_a_function_in_a_package_is_found(project):
    (project / "own_package").mkdir()
    (project / "own_package" / "deep.py").write_text("def train():\n    return __name__\n")
    assert import_function(resolved("own_package.deep:train", project))() == "own_package.deep"


def test_the_hashed_file_wins_over_one_of_the_same_name_earlier_on_the_import_path(project, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "own_train.py").write_text("def train():\n    return 'other'\n")
    sys.path.insert(0, str(other))
    assert import_function(resolved("own_train:train", project))() == 5


def test_a_file_that_has_changed_is_refused_before_any_of_it_runs(project):
    trainer = resolved("own_train:train", project)
    (project / "own_train.py").write_text("raise SystemExit('ran')\n")
    with pytest.raises(SpecError, match="has changed since its runs were asked for; launch the sweep again"):
        import_function(trainer)


def test_a_module_of_that_name_which_is_in_use_is_named(project):
    (project / "argparse.py").write_text("def train():\n    return 1\n")
    import argparse  # noqa: F401 - in use, as it is in most workers

    with pytest.raises(SpecError, match=r"another module 'argparse' is in use .*; rename .*argparse\.py"):
        import_function(resolved("argparse:train", project))


def test_a_module_that_fails_to_import_says_its_own_error(project):
    (project / "own_train.py").write_text("import no_such_library\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        import_function(resolved("own_train:train", project))
    assert "own_train" not in sys.modules


def test_a_name_that_the_module_lacks_is_refused_with_the_nearest(project):
    with pytest.raises(SpecError, match="has no 'trian' \\(did you mean \"train\""):
        import_function(resolved("own_train:trian", project))
