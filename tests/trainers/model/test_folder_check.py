"""A model folder that would give wrong numbers is refused with what is wrong and what mends it."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from sweeps.spec import ModelSpec, SpecError
from tests.benchmarks.bad_folders import KINDS, make
from tests.trainers.worlds import package_file
from trainers.model.base_model import load_base, load_weights
from trainers.model.folder_check import Use, problems_of

TINY = package_file("trainers/tiny/models/tiny-64")
USES = (
    Use(key="example", format="chat", text="25+08=", max_new_tokens=16),
    Use(key="eval", format="chat", system="Answer.", text="25+08=", max_new_tokens=12),
)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_bad_folder_is_refused_with_a_fix(tmp_path, kind):
    problems = problems_of(make(tmp_path, kind, TINY), USES)
    assert problems
    assert all(problem.rule and problem.fix and not problem.mended for problem in problems)
    assert all(len(problem.rule) < 700 for problem in problems)


def test_a_good_folder_has_no_problem():
    assert problems_of(TINY, USES) == []


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_a_wrappers_prefix_is_said_and_stripped_when_loaded(tmp_path, prefix):
    folder = shutil.copytree(TINY, tmp_path / "wrapped")
    file = folder / "model.safetensors"
    save_file(
        {f"{prefix}{key}": value for key, value in load_file(file).items()}, file, metadata={"format": "pt"}
    )
    [said] = problems_of(folder, USES)
    assert said.mended
    assert prefix in said.rule
    loaded, original = (
        dict(load_weights(ModelSpec(path=str(path)), precision="fp32", attention="eager").named_parameters())
        for path in (folder, TINY)
    )
    assert loaded.keys() == original.keys()
    assert all(torch.equal(loaded[key], original[key]) for key in original)


def test_weights_are_never_left_random_even_without_a_plan(tmp_path):
    folder = make(tmp_path, "one norm missing", TINY)
    with pytest.raises(SpecError, match=r"lack model\.norm\.weight"):
        load_weights(ModelSpec(path=str(folder)), precision="fp32", attention="eager")


def test_stop_ids_are_those_of_generate(tmp_path):
    folder = shutil.copytree(TINY, tmp_path / "model")
    (folder / "generation_config.json").unlink(missing_ok=True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": [1, 2]}))
    assert load_base(ModelSpec(path=str(folder))).eos_ids == (1, 2)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 3}))
    assert load_base(ModelSpec(path=str(folder))).eos_ids == (3,)
