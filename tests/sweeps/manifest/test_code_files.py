"""Functions and scripts are part of what a run is."""

from __future__ import annotations

import hashlib
import sys

import pytest

from sweeps.compose import compose_sweep
from sweeps.manifest.build import build_manifest
from sweeps.manifest.code_changes import changed_code, told_changes
from sweeps.manifest.code_files import script_of
from sweeps.spec import SpecError, run_id_of, spec_to_dict
from sweeps.spec.data_groups import TrainerSpec
from sweeps.spec.identity import group_science

SWEEP = """# @package _global_
defaults: [{override /trainer: function}]
trainer: {target: train:train, params: {a: 1}}
sweep: {axes: {seed: range(3)}}
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A sweep file and its function, and a folder elsewhere to launch from."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "train.py").write_text("def train(params, seed): return 1.0\n")
    (folder / "sweep.yaml").write_text(SWEEP)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return folder


def manifest_of(folder, *words):
    return build_manifest(compose_sweep([f"sweep={folder / 'sweep.yaml'}", *words]))


def test_the_functions_file_is_found_beside_the_sweep_file_and_hashed(project):
    trainer = manifest_of(project).spec(0).trainer
    assert trainer.folder == str(project)
    assert trainer.digest == hashlib.sha256((project / "train.py").read_bytes()).hexdigest()


def test_an_edited_file_makes_other_runs_and_is_named(project):
    before = manifest_of(project)
    (project / "train.py").write_text("def train(params, seed): return 2.0\n")
    after = manifest_of(project)
    assert not set(before.run_ids) & set(after.run_ids)
    assert changed_code(before, after) == ["train.py"]
    assert changed_code(before, before) == []
    assert "3 runs of the earlier file stay on disk, 4 to run" in told_changes(["train.py"], left=3, new=4)


def test_where_the_file_lies_is_no_part_of_what_a_run_is(project, tmp_path):
    moved = project.rename(tmp_path / "moved")
    at_new_place = manifest_of(moved)
    moved.rename(project)
    assert at_new_place.run_ids == manifest_of(project).run_ids


def test_a_function_is_found_in_the_current_folder_without_a_sweep_file(project, monkeypatch):
    monkeypatch.chdir(project)
    manifest = build_manifest(compose_sweep(["trainer=function", "trainer.target=train:train"]))
    assert manifest.spec(0).trainer.folder == str(project)


def test_the_file_beside_the_sweep_file_wins_over_the_current_folders(project, tmp_path):
    (tmp_path / "elsewhere" / "train.py").write_text("def train(): return 3.0\n")
    assert manifest_of(project).spec(0).trainer.folder == str(project)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trainer.target=tran:train"], r"there is no tran\.py, neither in .*project"),
        (["trainer.target=a.b:train"], r"there is no a/b\.py"),
        (["trainer.target='../train:train'"], "names no function; write module:function"),
        (["trainer.target='train:'"], "names no function"),
        (["trainer.target=''"], "is empty; name the function, such as train:train"),
        (["trainer.digest=abc"], "is filled in when runs are asked for"),
        (["trainer.folder=/tmp"], "is filled in when runs are asked for"),
    ],
)
def test_code_that_is_not_there_is_refused_with_the_fix(project, words, message):
    with pytest.raises(SpecError, match=message):
        manifest_of(project, *words)


def test_runs_without_a_function_or_a_command_have_the_ids_of_before():
    added = {"command", "patterns", "metrics_from", "digest", "folder"}
    assert not added & set(group_science(TrainerSpec()))
    spec = build_manifest(compose_sweep(["sweep=noop", "sweep.n=1"])).spec(0)
    assert run_id_of(spec) == spec.run_id
    assert added <= set(spec_to_dict(spec)["trainer"])


def test_the_script_of_a_command_is_the_word_that_a_reader_takes_for_it(project):
    for name in ("run.sh", "data.csv"):
        (project / name).touch()
    (project / "pack").mkdir()
    (project / "pack" / "deep.py").touch()
    found = {
        ("python", "train.py", "data.csv"): (1, "train.py"),
        ("./run.sh", "data.csv"): (0, "run.sh"),
        (sys.executable, "-u", "train.py"): (2, "train.py"),
        ("torchrun", "--nproc", "2", "train.py"): (3, "train.py"),
        ("python", "-m", "pack.deep", "train.py"): (2, "deep.py"),
        ("/bin/true", "x"): (0, "true"),
    }
    for words, (position, name) in found.items():
        at, file = script_of(words, project)
        assert (at, file.name) == (position, name), words
    for words in (
        ("true",),
        ("train.py",),
        ("python", "-m", "nothing"),
        ("sh", "-c", "echo"),
        ("a", "\0", "x" * 999),
    ):
        assert script_of(words, project) is None, words


def command_manifest(*words):
    return build_manifest(compose_sweep(["trainer=command", "example=text", "eval=none", *words]))


def test_an_edited_script_and_a_file_that_a_word_names_make_other_runs(project, monkeypatch):
    monkeypatch.chdir(project)
    (project / "conf.yaml").write_text("a: 1")
    words = "trainer.command=[python,train.py,'--conf={folder}/conf.yaml']"
    before = command_manifest(words)
    assert before.run_ids == command_manifest(words).run_ids
    for name in ("conf.yaml", "train.py"):
        (project / name).write_text(f"# another {name}")
        after = command_manifest(words)
        assert before.run_ids != after.run_ids
        assert changed_code(before, after) == ["train.py"]
        before = after


def test_a_class_beside_the_sweep_file_is_found_from_elsewhere(project):
    (project / "forests.py").write_text("class Forest: ...\n")
    folder = manifest_of(project, "trainer.target=forests.Forest").spec(0).trainer.folder
    assert folder == str(project)
    assert manifest_of(project, "trainer.target=trainers.noop.Noop").spec(0).trainer.folder == ""


def written(folder, trainer):
    """The first run of a sweep file that says this of its trainer."""
    text = "# @package _global_\ndefaults: [{override /trainer: command}, {override /eval: none}]\n"
    (folder / "own.yaml").write_text(f"{text}trainer: {trainer}\nsweep: {{axes: {{seed: [0]}}}}\n")
    return build_manifest(compose_sweep([f"sweep={folder / 'own.yaml'}"])).spec(0).trainer


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        (
            '{command: "python train.py --lr {seed}"}',
            r'a list of words: \[python, train\.py, --lr, "\{seed\}"\]',
        ),
        ("{command: [python, train.py, {seed}]}", r'put the word in quotes: "\{seed\}"'),
        ("{command: [python, train.py, [1]]}", "must be text, not list"),
        ("{comand: [a]}", 'did you mean "trainer.command"'),
    ],
)
def test_a_command_that_yaml_reads_as_something_else_is_refused_with_the_fix(project, trainer, message):
    with pytest.raises(SpecError, match=message):
        written(project, trainer)


def test_words_that_yaml_takes_for_other_values_are_words(project):
    trainer = written(project, "{command: ['true', true, no, null, 3, 0.5, 1e-4], metrics_from: wandb}")
    assert trainer.command == ("true", "true", "false", "null", "3", "0.5", "0.0001")
    assert trainer.metrics_from == ("wandb",)


def test_a_file_where_a_module_belongs_is_refused_with_the_module(project):
    with pytest.raises(SpecError, match=r"names a file; write its module: train:train"):
        manifest_of(project, "trainer.target='train.py:train'")
