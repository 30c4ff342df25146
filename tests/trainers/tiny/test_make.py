"""`python -m trainers.tiny.make` repeats itself from its seed, writes whole folders, refuses bad input."""

import json
import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from trainers.tiny import make, training
from trainers.tiny.tokenizer import build_tokenizer


def make_short(out, name, *, seed=0):
    """Twenty steps of the smallest shipped size; returns the folder."""
    arguments = ["--size", "32", "--steps", "20", "--out", str(out), "--name", name, "--seed", str(seed)]
    assert make.main(arguments) == 0
    return out / name


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_short(tmp_path_factory.mktemp("made"), "first")


@pytest.mark.slow
def test_twenty_steps_give_the_same_bits_from_the_same_seed_and_others_from_another(folder, tmp_path):
    again = make_short(tmp_path, "again")
    other = make_short(tmp_path, "other", seed=1)
    weights = [(path / "model.safetensors").read_bytes() for path in (folder, again, other)]
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]


def test_folder_is_complete_and_loads_as_any_model_does(folder):
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "tokenization.py",
        "README.md",
    }
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in folder.iterdir())
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.config.model_type == "qwen2"
    assert model.config.max_position_embeddings >= 4096
    assert model.config.vocab_size == len(tokenizer)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.generation_config.eos_token_id == model.config.eos_token_id == tokenizer.eos_token_id
    assert model.generation_config.pad_token_id == model.config.pad_token_id == tokenizer.pad_token_id


def test_nothing_but_the_folder_is_left_behind(folder):
    assert [path.name for path in folder.parent.iterdir()] == ["first"]


def test_card_states_the_command_that_was_run(folder):
    card = (folder / "README.md").read_text()
    assert "python -m trainers.tiny.make --size 32 --careful 0.6 --arch qwen2 --steps 20" in card
    assert "--seed 0 --name first" in card


def test_training_lowers_the_loss():
    recipe = training.Recipe(
        architecture="qwen2", size=32, careful_share=0.6, num_steps=60, peak_lr=8e-3, seed=0
    )
    losses = []
    trained = training.train(recipe, build_tokenizer(), lambda step, loss: losses.append(loss))
    assert len(losses) == recipe.num_steps
    assert trained.final_loss == losses[-1] < losses[0] - 1
    assert not trained.model.training


def test_separators_and_padding_are_not_learned():
    tokenizer = build_tokenizer()
    texts = ["42+89=?121 01+02=;03;003<end>", "42+89=?121<end>"]
    ids_BT = tokenizer(texts, padding=True, padding_side="right", return_tensors="pt").input_ids
    labels_BT = training.learned_labels(ids_BT, tokenizer)
    for text, ids_T, labels_T in zip(texts, ids_BT, labels_BT, strict=True):
        learned = tokenizer.decode(ids_T[labels_T != training.IGNORED])
        assert learned == text.replace(" ", "")
    assert torch.equal(labels_BT[labels_BT != training.IGNORED], ids_BT[labels_BT != training.IGNORED])


def test_learning_rate_rises_then_falls_and_no_step_is_wasted():
    multipliers = [training.lr_multiplier(step, 1000) for step in range(1000)]
    assert min(multipliers) > 0
    assert max(multipliers) == 1.0 == multipliers[training.WARMUP_STEPS - 1]
    assert multipliers == sorted(multipliers[:50]) + sorted(multipliers[50:], reverse=True)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--size", "30"], "multiple of 8, such as 32"),
        (["--size", "0"], "multiple of 8"),
        (["--size", "32", "--careful", "1.5"], "from 0 to 1"),
        (["--size", "32", "--careful", "nan"], "from 0 to 1"),
        (["--size", "32", "--arch", "qwen"], "choose one of qwen2"),
        (["--size", "32", "--steps", "0"], "1 or more"),
        (["--size", "32", "--lr", "0"], "between 0 and 1"),
        (["--size", "32", "--name", "a/b"], "not a folder name"),
        (["--size", "many"], "invalid int value"),
        ([], "--size"),
    ],
)
def test_bad_input_ends_with_status_2_and_a_way_out(tmp_path, capsys, arguments, hint):
    with pytest.raises(SystemExit) as ended:
        make.main([*arguments, "--out", str(tmp_path / "out")])
    assert ended.value.code == 2
    assert hint in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_existing_folder_is_kept_unless_forced(tmp_path, capsys):
    kept = tmp_path / "tiny-32" / "notes.txt"
    kept.parent.mkdir()
    kept.write_text("mine")
    with pytest.raises(SystemExit) as ended:
        make.main(["--size", "32", "--out", str(tmp_path)])
    assert ended.value.code == 2
    assert "--force" in capsys.readouterr().err
    assert kept.read_text() == "mine"


def test_place_that_cannot_be_written_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as ended:
        make.main(["--size", "32", "--out", str(tmp_path / "file")])
    assert ended.value.code == 2
    assert "choose another --out" in capsys.readouterr().err


def test_help_shows_an_example_and_loads_no_torch():
    code = "import sys, trainers.tiny.make as m\ntry: m.main(['--help'])\nexcept SystemExit: pass\n"
    code += "assert 'torch' not in sys.modules"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "example:\n  python -m trainers.tiny.make --size 64" in shown


def test_default_names_tell_the_mode_mix():
    assert make.default_name(64, 0.6) == "tiny-64"
    assert make.default_name(64, 0.8) == "tiny-64-careful80"


def test_configuration_file_names_the_architecture_the_recipe_asked_for(folder):
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["Qwen2ForCausalLM"]
    assert (config["num_hidden_layers"], config["num_attention_heads"], config["num_key_value_heads"]) == (
        2,
        4,
        2,
    )
    assert (config["hidden_size"], config["intermediate_size"]) == (32, 88)
    assert config["tie_word_embeddings"] is True
