"""A prompt that a model cannot read is refused before anything starts."""

from __future__ import annotations

import json
import shutil

import pytest

from sweeps.compose import compose_sweep
from sweeps.manifest.build import build_manifest
from sweeps.manifest.manifest import Manifest
from sweeps.spec import SpecError
from tests.trainers.worlds import package_file


def plan(*words: str) -> Manifest:
    return build_manifest(compose_sweep(["sweep=quickstart", "seed=0", *words]))


@pytest.fixture
def bare(tmp_path):
    """A model folder whose tokenizer has no chat template."""
    folder = shutil.copytree(package_file("trainers/tiny/models/tiny-64"), tmp_path / "bare")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    for file in folder.glob("chat_template*"):
        file.unlink()
    return folder


def test_a_prompt_above_the_limit_is_refused_with_its_tokens_unless_cutting_it_is_asked_for():
    with pytest.raises(SpecError, match=r"prompt 0 has .*6 tokens .* above sampling\.max_prompt_tokens=3"):
        plan("sampling.max_prompt_tokens=3")
    assert len(plan("sampling.max_prompt_tokens=6"))
    assert len(plan("sampling.max_prompt_tokens=3", "sampling.overlong=truncate"))


@pytest.mark.parametrize("group", ["example", "eval"])
def test_the_chat_format_needs_a_chat_template(bare, group):
    words = ("model=hf", f"model.path={bare}", "example.format=plain", "eval.format=plain")
    assert len(plan(*words))
    with pytest.raises(SpecError, match=rf"{group}\.format='chat': model .* has no chat template"):
        plan(*words, f"{group}.format=chat")


def test_another_trainer_reads_prompts_as_it_likes():
    assert len(plan("trainer=noop", "sampling.max_prompt_tokens=3"))
