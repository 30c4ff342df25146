from __future__ import annotations

import pytest
from transformers import AutoTokenizer

from sweeps.spec import SpecError
from tests.trainers.worlds import package_file
from trainers.model.prompt_encoding import encode, limit_length, render


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(package_file("trainers/tiny/models/tiny-64"))


def rendered(tokenizer, text="47+38=", **changes):
    fields = {"template": "{problem}", "system": None, "format": "chat", "key": "example"}
    return render(text, tokenizer=tokenizer, **{**fields, **changes})


def test_template_surrounds_the_problem(tokenizer):
    assert rendered(tokenizer, template="1{problem}2", format="plain") == "147+38=2"


def test_a_tokenizer_without_chat_template_is_refused_unless_plain_text_is_asked_for(tokenizer):
    bare = AutoTokenizer.from_pretrained(package_file("trainers/tiny/models/tiny-64"))
    bare.chat_template = None
    with pytest.raises(SpecError, match=r"no chat template; set example\.format=plain"):
        rendered(bare)
    assert rendered(bare, format="plain") == "47+38="


def test_encoding_round_trips(tokenizer):
    ids = encode("47+38=", tokenizer, format="chat")
    assert tokenizer.decode(ids) == "47+38="


def test_an_overlong_prompt_is_refused_with_its_length_or_cut_at_its_beginning():
    with pytest.raises(SpecError, match=r"12 tokens, above sampling\.max_prompt_tokens=8.*overlong=truncate"):
        limit_length(list(range(12)), limit=8, overlong="refuse")
    assert limit_length(list(range(12)), limit=8, overlong="truncate") == list(range(4, 12))
    with pytest.raises(SpecError, match="empty"):
        limit_length([], limit=8, overlong="refuse")


def test_a_folded_system_message_stands_before_the_question_in_the_users_turn(tokenizer):
    roles = AutoTokenizer.from_pretrained(package_file("trainers/tiny/models/tiny-64"))
    roles.chat_template = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
    asked = {"system": "Think.", "template": "Q: {problem}"}
    assert rendered(roles, **asked) == "<system>Think.<user>Q: 47+38="
    assert rendered(roles, **asked, system_role="fold") == "<user>Think.\n\nQ: 47+38="
    assert rendered(roles, system_role="fold") == "<user>47+38="
