from __future__ import annotations

import pytest

from sweeps.spec.redaction import HIDDEN, redact
from tests.sweeps.spec.secret_forms import HARMLESS, SECRETS


@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_a_secret_in_its_usual_form_is_hidden_wherever_it_stands(text, secret):
    for around in (text, f"\n  {text}\n", f"error: {text}", f"({text})"):
        hidden = redact(around, {}, hexadecimal=False)
        assert secret not in hidden
        assert HIDDEN in hidden


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_looks_alike_stays(text):
    assert redact(text, {}, hexadecimal=False) == text


def test_values_of_secret_variables_are_hidden_wherever_they_stand():
    environment = {"MY_TOKEN": "a plain word", "HOME": "/home/me", "SHORT_KEY": "abc"}
    assert redact("a plain word abc /home/me", environment) == "[hidden] abc /home/me"


def test_keys_in_hexadecimal_are_hidden_where_commits_need_not_be_seen():
    key = "0123456789abcdef0123456789abcdef01234567"
    assert redact(key, {}) == HIDDEN
    assert redact(key, {}, hexadecimal=False) == key


def test_a_long_text_without_secrets_takes_no_longer_than_reading_it():
    text = "step 1: loss 0.25, token_count=96, key=value; " * 20_000
    assert redact(text, {}, hexadecimal=False) == text
