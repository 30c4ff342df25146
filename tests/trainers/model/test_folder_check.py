"""A model folder that would give wrong numbers is refused with what is wrong and what mends it."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BloomConfig, BloomForCausalLM

from sweeps.spec import ModelSpec, SpecError
from tests.benchmarks.bad_folders import KINDS, make
from tests.trainers.worlds import package_file
from trainers.model.base_model import load_base, load_weights
from trainers.model.folder_check import examine
from trainers.model.prompt_check import Use

TINY = package_file("trainers/tiny/models/tiny-64")
USES = (
    Use(key="example", format="chat", text="25+08=", max_new_tokens=16),
    Use(key="eval", format="chat", system="Answer.", text="25+08=", max_new_tokens=12),
)


def problems_of(folder, uses):
    return examine(folder, uses, attentions=("sdpa",)).problems


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


def with_template(folder, template):
    (folder / "chat_template.jinja").write_text(template)
    return folder


def copied(tmp_path):
    return shutil.copytree(TINY, tmp_path / "model")


LAST_ONLY = "{{ messages[-1]['content'] }}"
REFUSES = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + LAST_ONLY
)


@pytest.mark.parametrize("template", [REFUSES, LAST_ONLY])
def test_a_template_that_does_not_take_the_system_message_names_the_way_to_fold_it(tmp_path, template):
    folder = with_template(copied(tmp_path), template)
    [refused] = problems_of(folder, USES)
    assert refused.key == "eval.system"
    assert "eval.system_role=fold" in refused.fix
    folded = Use(key="eval", format="chat", system="Answer.", system_role="fold", text="25+08=")
    assert problems_of(folder, [folded]) == []


@pytest.mark.parametrize(
    "template", ["1", "{{ messages[0]['content'] | upper }}", "{{ messages[0]['content'][:2] }}"]
)
def test_a_template_that_changes_the_question_is_refused(tmp_path, template):
    use = Use(key="example", format="chat", text="two plus two?")
    [refused] = problems_of(with_template(copied(tmp_path), template), [use])
    assert refused.key == "example.format"


def test_an_architecture_without_sdpa_is_refused_with_the_attention_that_it_has(tmp_path):
    folder = copied(tmp_path)
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    model = BloomForCausalLM(BloomConfig(vocab_size=vocabulary, hidden_size=16, n_layer=1, n_head=2))
    model.generation_config.eos_token_id = 2
    model.save_pretrained(folder)
    [refused] = problems_of(folder, USES)
    assert (refused.key, refused.fix) == ("engine.attention", "set engine.attention=eager")
    assert examine(folder, USES, attentions=("eager",)).problems == []
    with pytest.raises(SpecError, match=r"set engine\.attention=eager"):
        load_weights(ModelSpec(path=str(folder)), precision="fp32", attention="sdpa")


def test_a_tokenizer_that_ends_plain_prompts_is_told(tmp_path):
    folder = copied(tmp_path)
    file = folder / "tokenizer.json"
    post = {
        "type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<end>", "type_id": 0}}],
        "pair": [],
        "special_tokens": {"<end>": {"id": "<end>", "ids": [2], "tokens": ["<end>"]}},
    }
    file.write_text(json.dumps(json.loads(file.read_text()) | {"post_processor": post}))
    [refused] = problems_of(folder, [Use(key="eval", format="plain", text="25+08=")])
    assert (refused.key, "end-of-sequence" in refused.rule) == ("eval.format", True)
    assert problems_of(folder, USES) == []


def test_positions_beyond_the_last_are_refused_where_no_prompt_fits_and_said_where_some_do(tmp_path):
    folder = copied(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 20}))
    for shortest, mended in ((None, False), ("1" * 12, False), ("1+1=", True)):
        use = Use(key="eval", format="plain", text="1" * 15, shortest=shortest, max_new_tokens=12)
        [said] = problems_of(folder, [use])
        assert (said.key, said.mended) == ("eval.max_new_tokens", mended)


def test_what_was_looked_at_is_told():
    seen = examine(TINY, USES, attentions=("sdpa",))
    found = dict(seen.checked)
    assert found["stop ids"] == "2 '<end>'"
    assert found["eval prompt"].startswith("chat, 13 tokens, 54% of them unknown")
    assert set(found) >= {"weights", "example prompt", "example length", "eval length"}


def test_one_file_of_weights_counts_before_an_index_as_the_library_has_it(tmp_path):
    folder = copied(tmp_path)
    weights = load_file(folder / "model.safetensors")
    shard = {key: value + 1 for key, value in weights.items()}
    save_file(shard, folder / "shard.safetensors", metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, "shard.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    loaded = load_weights(ModelSpec(path=str(folder)), precision="fp32", attention="eager")
    assert torch.equal(dict(loaded.named_parameters())["model.norm.weight"], weights["model.norm.weight"])
    (folder / "model.safetensors").write_bytes(b"")
    assert "no safetensors file" in problems_of(folder, USES)[0].rule
    (folder / "model.safetensors").unlink()
    assert problems_of(folder, USES) == []


def test_a_tensor_that_two_shards_hold_is_refused_for_either_may_count(tmp_path):
    folder = shutil.copytree(TINY, tmp_path / "twice")
    tensors = load_file(folder / "model.safetensors")
    keys = sorted(tensors)
    half = len(keys) // 2
    shards = {"model-1.safetensors": keys[: half + 1], "model-2.safetensors": keys[half:]}
    for name, held in shards.items():
        save_file({key: tensors[key] for key in held}, folder / name, metadata={"format": "pt"})
    (folder / "model.safetensors").unlink()
    weight_map = {key: name for name, held in shards.items() for key in held}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    [problem] = problems_of(folder, USES)
    assert keys[half] in problem.rule
    assert "another file" in problem.rule
