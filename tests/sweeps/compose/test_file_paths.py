"""A relative path in a file is relative to the file; one on the command line, to the current folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sweeps import conf
from sweeps.compose import compose_sweep
from sweeps.compose.file_paths import anchored
from sweeps.manifest.build import build_manifest
from sweeps.spec import SpecError

MODEL = Path(conf.__file__).parents[2] / "trainers" / "tiny" / "models" / "tiny-32"

SWEEP = """\
# @package _global_
defaults:
  - override /model: hf
  - override /example: file
model: {path: ./my-model}
example: {path: prompts.jsonl}
eval: {path: ../held-out.jsonl, name: held-out}
sweep:
  axes: {"example.rows": [[0], [1]]}
"""


def rows(path, *texts):
    path.write_text("".join(json.dumps({"problem": t, "answer": "1"}) + "\n" for t in texts))


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A study in a folder of its own, with its data, and a current folder that holds nothing."""
    folder = tmp_path / "study" / "sweeps"
    folder.mkdir(parents=True)
    shutil.copytree(MODEL, folder / "my-model")
    rows(folder / "prompts.jsonl", "1+1=", "1+2=")
    rows(tmp_path / "study" / "held-out.jsonl", "2+2=")
    (folder / "mine.yaml").write_text(SWEEP)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return folder


def manifest(*words):
    return build_manifest(compose_sweep(words))


def test_a_sweep_file_finds_what_lies_beside_it_from_any_folder(study, monkeypatch):
    far = manifest(f"sweep={study / 'mine.yaml'}")
    assert far.spec(0).model.path == str(study / "my-model")
    assert far.spec(0).example.prompts == ("1+1=",)
    assert far.spec(0).eval.path == str(study.parent / "held-out.jsonl")
    monkeypatch.chdir(study)
    near = manifest("sweep=mine.yaml")
    assert near.run_ids == far.run_ids
    assert near.name(0) == far.name(0)


def test_a_path_on_the_command_line_is_relative_to_the_current_folder(study):
    rows(Path("prompts.jsonl"), "3+3=")
    assert manifest(f"sweep={study / 'mine.yaml'}", "example.path=prompts.jsonl", "example.rows=[0]").spec(
        0
    ).example.prompts == ("3+3=",)


def test_axes_parts_and_rules_of_a_file_are_relative_to_it_too(study):
    rows(study / "more.jsonl", "5+5=")
    shutil.copytree(MODEL.with_name("tiny-64"), study / "other-model")
    (study / "wide.yaml").write_text(
        SWEEP.split("sweep:")[0] + "sweep:\n"
        "  axes:\n"
        "    seed: [0]\n"
        '    model.path: "./my-model,./other-model"\n'
        "    eval.path: {values: [../held-out.jsonl], when: seed=0}\n"
        "  concat:\n"
        "    - axes: {example.path: [prompts.jsonl]}\n"
        "    - axes: {example.path: [more.jsonl]}\n"
        "  set: [{when: seed=9, model.path: ./my-model}]\n"
    )
    wide = manifest(f"sweep={study / 'wide.yaml'}")
    assert {wide.spec(i).model.path for i in range(len(wide))} == {
        str(study / name) for name in ("my-model", "other-model")
    }
    assert {wide.spec(i).example.prompts for i in range(len(wide))} == {("1+1=",), ("5+5=",)}


def test_option_files_and_sweeps_of_a_folder_of_options_are_relative_to_themselves(study):
    conf_dir = study / "conf"
    for group in ("model", "sweep"):
        (conf_dir / group).mkdir(parents=True)
    (conf_dir / "model" / "ours.yaml").write_text("path: ../../my-model\n")
    (conf_dir / "sweep" / "theirs.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /model: ours\n  - override /example: file\n"
        "example: {path: ../../prompts.jsonl}\nsweep: {axes: {seed: [0]}}\n"
    )
    found = manifest(f"hydra.searchpath=[file://{conf_dir}]", "sweep=theirs")
    assert found.spec(0).model.path == str(study / "my-model")
    assert found.spec(0).example.path == str(study / "prompts.jsonl")


def test_what_lies_in_the_current_folder_only_is_still_found(study):
    shutil.move(study / "prompts.jsonl", "prompts.jsonl")
    assert manifest(f"sweep={study / 'mine.yaml'}").spec(0).example.prompts == ("1+1=",)


def test_a_missing_file_is_named_as_the_file_means_it(study):
    (study / "prompts.jsonl").unlink()
    with pytest.raises(SpecError, match=str(study / "prompts.jsonl")):
        manifest(f"sweep={study / 'mine.yaml'}")


@pytest.mark.parametrize(
    "path",
    ["Qwen/Qwen2.5-Math-7B", "pkg://trainers/x", "/data/m", "~/m", "${oc.env:HOME}/m", "a/${model.name}"],
)
def test_what_is_no_path_of_a_file_beside_stays_as_it_is(tmp_path, path):
    assert anchored("model.path", path, tmp_path) == path


def noop_file(folder, name):
    file = folder / "sweep" / f"{name}.yaml"
    file.parent.mkdir()
    file.write_text(
        "# @package _global_\ndefaults: [override /trainer: noop]\nsweep: {axes: {seed: range(2)}}\n"
    )
    return file


@pytest.mark.parametrize("name", ["nan", "1", "true", "null", "1e-3"])
def test_the_name_of_a_sweep_file_is_text_whatever_it_reads_like(tmp_path, name):
    assert manifest(f"sweep={noop_file(tmp_path, name)}").sweep == name


@pytest.mark.parametrize("name", ["inf", "2", "false", "2e-3"])
def test_so_is_that_of_a_sweep_in_a_folder_of_options(tmp_path, name):
    noop_file(tmp_path, name)
    assert manifest(f"hydra.searchpath=[file://{tmp_path}]", f"sweep={name}").sweep == name
