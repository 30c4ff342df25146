import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sweeps.manifest.data_files import local_path
from sweeps.manifest.resolve import (
    Need,
    check_needs,
    folder_digest,
    resolve_eval,
    resolve_example,
    resolve_model,
)
from sweeps.spec import EvalSpec, SpecError, group_to_dict

EVAL = group_to_dict(EvalSpec())


def example(path, **changes):
    return resolve_example({"path": str(path), "text_field": "problem", **changes})[0]


class TestModel:
    def test_a_folder_is_known_by_its_content_and_not_by_its_place(self, model_folder, tmp_path):
        moved = tmp_path / "elsewhere"
        shutil.copytree(model_folder, moved)
        one, other = resolve_model({"path": str(model_folder)})[0], resolve_model({"path": str(moved)})[0]
        assert one["digest"] == other["digest"] == folder_digest(model_folder)
        assert one["hub_id"] is None
        assert one["path"] != other["path"]

    def test_weights_tokenizer_and_config_are_identity_and_a_readme_is_not(self, model_folder):
        before = folder_digest(model_folder)
        (model_folder / "README.md").write_text("changed")
        assert folder_digest(model_folder) == before
        for name in ("config.json", "tokenizer.json", "model.safetensors"):
            changed = (model_folder / name).read_bytes()
            (model_folder / name).write_bytes(changed + b" ")
            assert folder_digest(model_folder) != before
            (model_folder / name).write_bytes(changed)

    def test_an_adapter_and_the_base_that_it_names_are_identity(self, model_folder, tmp_path):
        before, base = folder_digest(model_folder), tmp_path / "base"
        shutil.copytree(model_folder, base)
        digests = {before}
        for config in ({"lora_alpha": 8}, {"lora_alpha": 800}, {"base_model_name_or_path": str(base)}):
            (model_folder / "adapter_config.json").write_text(json.dumps(config))
            digests.add(folder_digest(model_folder))
        (base / "model.safetensors").write_bytes(b"other weights")
        digests.add(folder_digest(model_folder))
        assert len(digests) == 5

    @pytest.mark.parametrize("name", ["../out.safetensors", "/tmp/out.safetensors", "sub/a.safetensors"])
    def test_an_index_that_names_weights_outside_the_folder_is_refused(self, model_folder, name):
        index = model_folder / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": {"a": "model.safetensors", "b": name}}))
        with pytest.raises(SpecError, match=f"names '{name}', which is not a file of this folder"):
            resolve_model({"path": str(model_folder)})
        index.write_text("[]")
        with pytest.raises(SpecError, match="is not an index of weights"):
            resolve_model({"path": str(model_folder)})

    def test_a_shipped_model_keeps_its_portable_path(self):
        assert resolve_model({"path": "pkg://trainers/tiny/models/tiny-64"})[0]["path"].startswith("pkg://")

    def test_a_hub_id_needs_no_network_and_says_what_is_missing(self, monkeypatch, tmp_path):
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
        config, need = resolve_model({"path": "Qwen/Qwen2.5-Math-7B", "revision": "abc"})
        assert (config["hub_id"], config["revision"], config["digest"]) == (
            "Qwen/Qwen2.5-Math-7B",
            "abc",
            None,
        )
        assert need.missing == ("config.json", "tokenizer.json", "model.safetensors")

    @pytest.mark.parametrize(
        ("remove", "message"),
        [
            ("tokenizer.json", "has no tokenizer"),
            ("config.json", "has no config.json"),
            ("model.safetensors", "has no weights"),
        ],
    )
    def test_a_folder_that_lacks_something_is_refused(self, model_folder, remove, message):
        (model_folder / remove).unlink()
        with pytest.raises(SpecError, match=message):
            resolve_model({"path": str(model_folder)})

    def test_pickled_weights_alone_are_refused(self, model_folder):
        (model_folder / "model.safetensors").rename(model_folder / "pytorch_model.bin")
        with pytest.raises(SpecError, match=r"pickled weights only \(pytorch_model.bin\).*save_pretrained"):
            resolve_model({"path": str(model_folder)})

    def test_a_shard_that_the_index_names_must_be_there(self, model_folder):
        index = {"weight_map": {"a": "model-1.safetensors", "b": "model.safetensors"}}
        (model_folder / "model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(SpecError, match=r"lacks model-1\.safetensors"):
            resolve_model({"path": str(model_folder)})

    @pytest.mark.parametrize("path", ["/nope", "./nope", "a/b/c", "nope"])
    def test_a_missing_folder_is_refused(self, path):
        with pytest.raises(SpecError, match="no such folder; give a Hugging Face model folder"):
            resolve_model({"path": path})

    def test_a_file_is_no_folder_and_no_path_is_no_model(self, model_folder):
        with pytest.raises(SpecError, match="is a file"):
            resolve_model({"path": str(model_folder / "config.json")})
        with pytest.raises(SpecError, match=r"model=hf model\.path=FOLDER"):
            resolve_model({"path": None})
        with pytest.raises(SpecError, match="'nothing_here' is not installed"):
            resolve_model({"path": "pkg://nothing_here/model"})


class TestExample:
    def test_rows_ids_and_all_rows(self, prompts):
        assert example(prompts, rows=[1])["prompts"] == ["11+23="]
        assert example(prompts, rows=1)["prompts"] == ["11+23="]
        assert example(prompts, ids=["p2", "p0"])["prompts"] == ["12+23=", "10+23="]
        assert len(example(prompts, rows=[])["prompts"]) == 3

    def test_a_gold_answer_is_read_only_where_asked_for(self, prompts):
        assert example(prompts, rows=[0])["answers"] == []
        assert example(prompts, rows=[0], answer_field="answer")["answers"] == ["33"]

    def test_chat_messages_in_parquet(self, tmp_path):
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1?"}]
        table = pa.table({"prompt": [messages], "reward_model": [{"ground_truth": "2"}]})
        pq.write_table(table, tmp_path / "p.parquet")
        read = example(
            tmp_path / "p.parquet", text_field="prompt", rows=[0], answer_field="reward_model.ground_truth"
        )
        assert (read["prompts"], read["system"], read["answers"]) == (["1+1?"], "Be brief.", ["2"])

    def test_prompts_may_be_written_out(self):
        assert resolve_example({"path": None, "prompts": ["a"]})[0]["prompts"] == ["a"]

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"rows": [3]}, "has rows 0 to 2"),
            ({"rows": [-1]}, "has rows 0 to 2"),
            ({"ids": ["p9"]}, r'example.ids=\'p9\': is not in .*did you mean "p'),
            (
                {"text_field": "problme", "rows": [1]},
                r'line 2 has id, problem, answer \(did you mean "problem"',
            ),
            ({"answer_field": "gold", "rows": [0]}, "example.answer_field='gold'"),
        ],
    )
    def test_what_the_file_does_not_hold_is_refused(self, prompts, changes, message):
        with pytest.raises(SpecError, match=message):
            example(prompts, **changes)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "has no rows"),
            ('{"problem": "a"}\n{oops', "line 2: is not JSON"),
            ("[1]\n", "line 1: must be a JSON object, not list"),
            ('\n{"problem": ""}\n', "line 2: problem='': the prompt is empty text"),
            ('{"problem": 3}\n', "holds no prompt but int"),
            (
                '{"problem": [{"role": "assistant", "content": "a"}]}\n',
                "holds messages of assistant; give one user message",
            ),
        ],
    )
    def test_a_broken_file_is_refused_with_its_line(self, tmp_path, text, message):
        path = tmp_path / "p.jsonl"
        path.write_text(text)
        with pytest.raises(SpecError, match=message):
            example(path, rows=[])

    def test_a_missing_or_mislabelled_file_is_refused(self, tmp_path):
        with pytest.raises(SpecError, match=r"example.path=.*no such file"):
            example(tmp_path / "none.jsonl")
        (tmp_path / "x.parquet").write_text("hello")
        with pytest.raises(SpecError, match="is not a Parquet file"):
            example(tmp_path / "x.parquet")
        with pytest.raises(SpecError, match="names no prompt"):
            resolve_example({"path": None})


class TestEval:
    def test_a_benchmark_is_known_by_its_content(self, prompts):
        config = resolve_eval(EVAL | {"path": str(prompts)})[0]
        assert (config["name"], len(config["digest"])) == ("prompts", 64)

    def test_a_pinned_benchmark_may_be_missing_while_planning_and_must_match_when_there(
        self, prompts, tmp_path
    ):
        pinned = EVAL | {"path": str(tmp_path / "later.jsonl"), "digest": "0" * 64}
        config, need = resolve_eval(pinned)
        assert config["digest"] == "0" * 64
        assert need.missing == (str(tmp_path / "later.jsonl"),)
        shutil.copy(prompts, tmp_path / "later.jsonl")
        with pytest.raises(SpecError, match="differs from the benchmark"):
            resolve_eval(pinned)

    def test_rows_need_their_question_and_answer(self, prompts):
        with pytest.raises(SpecError, match=r'eval.answer_field=\'anwser\'.*did you mean "answer"'):
            resolve_eval(EVAL | {"path": str(prompts), "answer_field": "anwser"})
        prompts.write_text('{"problem": "a", "answer": "1"}\n\n{"problem": "b", "answer": ""}\n')
        with pytest.raises(SpecError, match=r"line 3 \(item 2\): answer='': holds no answer but empty text"):
            resolve_eval(EVAL | {"path": str(prompts)})

    def test_no_benchmark_needs_no_file(self):
        assert resolve_eval(EVAL)[0]["name"] == "none"


def test_launching_without_network_names_the_missing_files_and_the_way_out():
    need = Need(
        what="hub model a/b at main", missing=("config.json",), fix="point at a local copy", downloadable=True
    )
    check_needs([need], lambda: True)
    with pytest.raises(
        SpecError, match=r"a/b at main: no network .* missing config.json; point at a local copy"
    ):
        check_needs([need], lambda: False)
    file = Need(what="benchmark x", missing=("x.jsonl",), fix="put it there", downloadable=False)
    with pytest.raises(SpecError, match="benchmark x: not found"):
        check_needs([file], lambda: True)


def test_the_shipped_problems_have_prompts_and_answers():
    rows = [
        json.loads(line) for line in local_path("pkg://sweeps/data/problems.jsonl").read_text().splitlines()
    ]
    assert len(rows) == 7
    assert all(r["problem"] and r["answer"] for r in rows)
