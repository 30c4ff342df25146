"""Settings made for the tiny models are named where another model meets them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sweeps.compose import compose_sweep
from sweeps.manifest.build import build_manifest
from sweeps.manifest.toy_settings import toy_settings
from trainers.tiny import MODELS_DIR

TOY = ("sweep=quickstart", "example=carry-1", "optim.lr=1e-4", "seed=0")


@pytest.fixture
def own_model(tmp_path):
    """A model folder of somebody's own: it is not of the tiny models' world."""
    shutil.copytree(MODELS_DIR / "tiny-32", tmp_path / "own-model")
    config = tmp_path / "own-model" / "tokenizer_config.json"
    told = json.loads(config.read_text())
    del told["auto_map"]
    config.write_text(json.dumps(told))
    return tmp_path / "own-model"


def settings(*words):
    return toy_settings(build_manifest(compose_sweep([*TOY, *words])))


def test_a_model_of_ones_own_under_the_defaults_is_told_of_each_with_the_words_that_mend_it(own_model):
    found = settings("model=hf", f"model.path={own_model}")
    assert [s.key for s in found] == ["example", "sampling.max_new_tokens", "eval", "engine"]
    assert {s.models for s in found} == {("own-model",)}
    text = "\n".join(map(str, found))
    for fix in ("sampling=paper", "eval=math500", "engine=gpu resources=gpu", "example=file"):
        assert fix in text


def test_the_words_that_mend_it_do(own_model, tmp_path):
    prompts = tmp_path / "p.jsonl"
    prompts.write_text('{"problem": "1+1="}\n')
    mended = ("sampling=paper", "eval=none", "engine=gpu", "resources=gpu", "example=file")
    assert settings("model=hf", f"model.path={own_model}", *mended, f"example.path={prompts}") == []
    judged = ("eval=qwen25-math-cot", f"eval.path={tmp_path / 'b.jsonl'}")
    (tmp_path / "b.jsonl").write_text('{"problem": "1+1=", "answer": "2"}\n')
    assert settings("model=hf", f"model.path={own_model}", *mended, f"example.path={prompts}", *judged) == []


def test_a_benchmark_of_ones_own_below_the_toy_option_is_told_of_its_cut_answers(own_model, tmp_path):
    (tmp_path / "b.jsonl").write_text('{"problem": "1+1=", "answer": "2"}\n')
    found = settings("model=hf", f"model.path={own_model}", f"eval.path={tmp_path / 'b.jsonl'}")
    assert ("eval.max_new_tokens", "12") in [(s.key, s.value) for s in found]


def test_tiny_models_shipped_or_made_and_other_trainers_have_no_toy_settings(tmp_path):
    shutil.copytree(MODELS_DIR / "tiny-32", tmp_path / "made")
    assert settings("model=tiny-64,tiny-96") == []
    assert settings("model=hf", f"model.path={tmp_path / 'made'}") == []
    assert settings("model=hf", "model.path=Qwen/Qwen2.5-Math-1.5B", "trainer=noop") == []


def test_every_model_is_named_once(own_model):
    found = settings("model=hf", f"model.path={own_model},Qwen/Qwen2.5-Math-1.5B", "seed=0,1")
    assert [s.models for s in found] == [("own-model", "Qwen2.5-Math-1.5B")] * 4
    assert Path(own_model).name in str(found[0])
