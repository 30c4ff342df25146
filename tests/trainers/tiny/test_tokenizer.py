"""The tokenizer is one token a character, survives being saved, and takes any text."""

import shutil

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from trainers.tiny import architectures, tokenization
from trainers.tiny.tokenizer import END, MAX_POSITIONS, PAD, SPECIAL_TOKENS, UNKNOWN, build_tokenizer
from trainers.tiny.world import ALPHABET


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A saved tokenizer beside a Qwen2 configuration, as in a model folder."""
    path = tmp_path_factory.mktemp("tokenizer")
    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(path, save_jinja_files=False)
    shutil.copy(tokenization.__file__, path)
    config = architectures.qwen2(hidden=16, vocab_size=len(tokenizer), pad_id=0, end_id=2)
    config.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def tokenizer(folder):
    return AutoTokenizer.from_pretrained(folder)


def test_every_text_of_the_world_comes_back_unchanged(tokenizer):
    text = "42+89=;11;131 07+15=?012" + ALPHABET
    ids = tokenizer(text).input_ids
    assert len(ids) == len(text)
    assert tokenizer.decode(ids) == text


def test_encoding_adds_nothing_at_either_end(tokenizer):
    assert tokenizer.convert_ids_to_tokens(tokenizer("1+").input_ids) == ["1", "+"]
    assert tokenizer("").input_ids == []


@pytest.mark.parametrize("text", ["x", "é", "\n", "日", "🙂", "\\", "\t\u00a0"])
def test_unknown_characters_become_unk_one_each(tokenizer, text):
    assert tokenizer(f"4{text}2").input_ids == [
        tokenizer.convert_tokens_to_ids("4"),
        *[tokenizer.unk_token_id] * len(text),
        tokenizer.convert_tokens_to_ids("2"),
    ]


def test_special_tokens_are_distinct_and_inside_the_vocabulary(tokenizer):
    ids = [tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.eos_token_id]
    assert ids == [0, 1, 2]
    assert (tokenizer.pad_token, tokenizer.unk_token, tokenizer.eos_token) == (PAD, UNKNOWN, END)
    assert tokenizer.bos_token is None
    assert len(tokenizer) == len(SPECIAL_TOKENS) + len(ALPHABET)


def test_end_token_is_read_from_text_and_left_out_of_decoded_completions(tokenizer):
    ids = tokenizer(f";11;131{END}{PAD}").input_ids
    assert ids[-2:] == [tokenizer.eos_token_id, tokenizer.pad_token_id]
    assert tokenizer.decode(ids, skip_special_tokens=True) == ";11;131"


def test_chat_template_renders_the_bare_content(tokenizer):
    messages = [{"role": "user", "content": "42+89="}]
    for add_generation_prompt in (False, True):
        text = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=add_generation_prompt
        )
        assert text == "42+89="


def test_prompts_are_padded_on_the_left(tokenizer):
    batch = tokenizer(["1+", "12+34="], padding=True)
    assert batch.input_ids[0][:4] == [tokenizer.pad_token_id] * 4
    assert batch.attention_mask[0] == [0, 0, 0, 0, 1, 1]


def test_tokenizers_library_alone_reads_the_same_ids(folder, tokenizer):
    text = "42+89=;11;131 é"
    assert Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids == tokenizer(text).input_ids


def test_tokenizer_is_the_same_with_remote_code_allowed_and_after_saving_again(folder, tokenizer, tmp_path):
    text = "42+89=;11;131 é\n9"
    trusting = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    tokenizer.save_pretrained(tmp_path)
    shutil.copy(folder / "config.json", tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert trusting(text).input_ids == again(text).input_ids == tokenizer(text).input_ids
    assert tokenizer.model_max_length == again.model_max_length == MAX_POSITIONS
