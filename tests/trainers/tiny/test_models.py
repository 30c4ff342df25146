"""Every shipped base model loads as any model folder does and measures what its card says."""

import re
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from sweeps.manifest.resolve import folder_digest
from trainers.tiny import DATA_DIR, MODELS_DIR, make, tokenization
from trainers.tiny.items import EVAL_FILE, read_json_lines
from trainers.tiny.measure import measure, roll_out
from trainers.tiny.training import Recipe
from trainers.tiny.world import ALPHABET, SURE_SHARE

CAREFUL_SHARES = {
    "tiny-32": 0.6,
    "tiny-64": 0.6,
    "tiny-96": 0.6,
    "tiny-192": 0.6,
    "tiny-64-careful": 0.8,
    "tiny-64-hasty": 0.3,
    **{f"tiny-{size}-{family}": 0.6 for size in (64, 96) for family in ("llama", "gpt-neox", "gemma")},
}
"""The shipped models and the share of careful writers behind each."""

DIGEST_WITH_CODE = "b00bcf98a7120966c026373dbd07bff24bc3ed817234bfcf6b031ef37a144909"
"""Of tiny-64 where its code is trusted: it is part of the id of such runs."""

CARD_TOLERANCE = 0.003
"""Six of the 2,000 samples behind a card: another processor's last bits may flip a near tie. A card of other
weights is off by more: 1,000 further steps moved tiny-64 by 0.0105."""


def card_value(name, figure):
    """A figure of a model card's table."""
    card = (MODELS_DIR / name / "README.md").read_text()
    match = re.search(rf"^\| {re.escape(figure)} \| ([\d.,]+) \|$", card, re.MULTILINE)
    assert match, f"no {figure!r} on the card of {name}"
    return float(match[1].replace(",", ""))


@pytest.fixture(scope="module", params=CAREFUL_SHARES)
def shipped(request):
    """A shipped model: its name, the model and its tokenizer."""
    folder = MODELS_DIR / request.param
    model = AutoModelForCausalLM.from_pretrained(folder)
    return request.param, model, AutoTokenizer.from_pretrained(folder)


def test_shipped_models_are_these_and_small():
    assert {path.name for path in MODELS_DIR.iterdir() if path.is_dir()} == set(CAREFUL_SHARES)
    assert sum(path.stat().st_size for path in MODELS_DIR.rglob("*") if path.is_file()) < 10e6


def test_the_class_that_folders_name_is_one_file_and_their_content_is_what_it_was():
    links = [MODELS_DIR / name / "tokenization.py" for name in CAREFUL_SHARES]
    assert {link.resolve() for link in links} == {Path(tokenization.__file__).resolve()}
    assert folder_digest(MODELS_DIR / "tiny-64", with_code=True) == DIGEST_WITH_CODE


def test_model_measures_what_its_card_says(shipped):
    name, model, tokenizer = shipped
    facts = measure(model, tokenizer, read_json_lines(DATA_DIR / EVAL_FILE))
    for figure, value in (
        ("greedy accuracy", facts.greedy_accuracy),
        ("sampled accuracy, T=1", facts.sampled_accuracy),
        ("careful mode, share of samples", facts.careful_share),
        ("hasty mode, share of samples", facts.hasty_share),
    ):
        assert value == pytest.approx(card_value(name, figure), abs=CARD_TOLERANCE), figure
    assert facts.entropy_nats == pytest.approx(card_value(name, "mean token entropy, nats"), rel=0.01)
    assert model.num_parameters() == card_value(name, "parameters")


def test_card_states_the_recipe_that_the_make_script_uses_today(shipped):
    name, model, _ = shipped
    num_steps, peak_lr = make.DEFAULTS[model.config.hidden_size]
    assert card_value(name, "training steps") == num_steps
    recipe = Recipe(
        architecture=model.config.model_type.replace("_", "-"),
        size=model.config.hidden_size,
        careful_share=CAREFUL_SHARES[name],
        num_steps=num_steps,
        peak_lr=peak_lr,
        seed=0,
    )
    assert make.command_for(recipe, name) in (MODELS_DIR / name / "README.md").read_text()


def test_model_writes_in_the_modes_of_its_text(shipped):
    name, _, _ = shipped
    expected = 0.9 * CAREFUL_SHARES[name] + 0.1 * SURE_SHARE
    assert card_value(name, "careful mode, share of samples") == pytest.approx(expected, abs=0.05)
    assert card_value(name, "careful mode, share of samples") + card_value(
        name, "hasty mode, share of samples"
    ) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("name", [name for name, share in CAREFUL_SHARES.items() if share > 0.5])
def test_greedy_answers_are_right_where_careful_is_the_majority(name):
    assert card_value(name, "greedy accuracy") >= 0.99


def test_majority_of_the_hasty_model_is_wrong_where_it_matters():
    assert card_value("tiny-64-hasty", "greedy accuracy") < 0.7


def test_model_takes_long_prompts_and_foreign_text(shipped):
    _, model, tokenizer = shipped
    assert len(tokenizer) == model.config.vocab_size == len(ALPHABET) + 3
    assert model.config.max_position_embeddings >= 4096
    rollouts = roll_out(model, tokenizer, ["What is 4² + 89?\n" * 20, "42+89="], temperature=1.0)
    assert len(rollouts.texts) == 2
    assert rollouts.entropy_nats.isfinite().all()


def test_completions_end_with_the_end_token(shipped):
    _, model, tokenizer = shipped
    rollouts = roll_out(model, tokenizer, ["42+89=", "31+42=;03;073 57+68="] * 50, temperature=1.0)
    lengths = {len(text) + 1 for text in rollouts.texts}  # the end token is not in the text
    assert lengths <= {5, 8}
    assert rollouts.num_tokens.tolist() == [len(text) + 1 for text in rollouts.texts]


def test_entropy_is_that_of_the_models_own_distributions():
    folder = MODELS_DIR / "tiny-64"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    rollouts = roll_out(model, tokenizer, ["42+89=", "5+5="], temperature=1.0, seed=3)
    for prompt, text, total in zip(["42+89=", "5+5="], rollouts.texts, rollouts.entropy_nats, strict=True):
        num_prompt = len(prompt)
        ids = tokenizer(prompt + text, return_tensors="pt").input_ids
        p_TV = model(ids).logits[0, num_prompt - 1 :].double().softmax(-1)
        assert -(p_TV * p_TV.log()).sum().item() == pytest.approx(total.item(), abs=1e-4)
