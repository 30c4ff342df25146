"""Which tokens of a conversation are answers: by its template's own marks, or by what one more turn adds."""

from __future__ import annotations

import copy
import dataclasses
from itertools import groupby

import pytest

from sweeps.manifest.given_rows import Given
from sweeps.manifest.training_rows import TrainingRow
from sweeps.spec import DataSpec, SpecError
from tests.trainers.worlds import tiny_spec
from trainers.model.base_model import BaseModel, load_base
from trainers.model.target_encoding import GivenSequence, encode_given


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


CLOSED = (
    "{% for m in messages %}{% if m.role == 'assistant' %}={{ m.content }}<end>+{% else %}"
    "{{ m.content }}+{% endif %}{% endfor %}{% if add_generation_prompt %}={% endif %}"
)
"""Every turn is closed, answers by the end-of-sequence token and something behind it."""

MARKED = CLOSED.replace("{{ m.content }}<end>+", "{% generation %}{{ m.content }}<end>{% endgeneration %}+")

COUNTING = "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}"
"""Renders the beginning of a conversation otherwise than it stands in the whole."""

SILENT = "{% for m in messages %}{% if m.role != 'assistant' %}{{ m.content }}{% endif %}{% endfor %}"


@pytest.fixture(scope="module")
def tiny() -> BaseModel:
    return load_base(tiny_spec().model)


def with_template(base: BaseModel, template: str) -> BaseModel:
    tokenizer = copy.deepcopy(base.tokenizer)
    tokenizer.chat_template = template
    return dataclasses.replace(base, tokenizer=tokenizer)


def encoded(
    base: BaseModel, *completions, prompt: str = "1+1", context: tuple = (), system: str | None = None, **data
) -> list[GivenSequence]:
    given = Given(completions=completions, context=context)
    row = TrainingRow(prompt=prompt, system=system, answer=None, difficulty=None, given_json=given.to_json())
    return encode_given([row], DataSpec(path="set", name="set", **data), base)


def counted_texts(base: BaseModel, sequence: GivenSequence) -> list[str]:
    """The stretches that are counted, in order."""
    runs = [[k for _, k in run] for _, run in groupby(enumerate(sequence.counted), lambda p: p[1] - p[0])]
    return [base.tokenizer.decode([sequence.ids[k] for k in run]) for run in runs]


def whole(base: BaseModel, sequence: GivenSequence) -> str:
    return base.tokenizer.decode(sequence.ids)


TURNS = (turn("assistant", "2"), turn("user", "3+3"), turn("assistant", "6"))


def test_one_answer_is_counted_to_the_end_with_what_the_template_writes_behind_it(tiny):
    base = with_template(tiny, CLOSED)
    [sequence] = encoded(base, "2")
    assert whole(base, sequence) == "1+1+=2<end>+"
    assert counted_texts(base, sequence) == ["2<end>+"]


def test_an_answer_that_the_template_leaves_open_is_ended(tiny):
    [sequence] = encoded(tiny, "2")
    assert whole(tiny, sequence) == "1+12<end>"
    assert counted_texts(tiny, sequence) == ["2<end>"]
    [last] = encoded(tiny, TURNS)
    assert counted_texts(tiny, last) == ["2", "6<end>"]


def test_plain_text_ends_with_one_end(tiny):
    for completion in ("2", "2<end>"):
        [sequence] = encoded(tiny, completion, format="plain", template="{problem}=")
        assert whole(tiny, sequence) == "1+1=2<end>"
        assert counted_texts(tiny, sequence) == ["2<end>"]


@pytest.mark.parametrize(("template", "behind"), [(CLOSED, "+"), (MARKED, "")], ids=["prefixes", "marks"])
def test_every_answer_of_a_conversation_is_counted_and_nothing_else(tiny, template, behind):
    base = with_template(tiny, template)
    [sequence] = encoded(base, TURNS)
    assert whole(base, sequence) == "1+1+=2<end>+3+3+=6<end>+"
    assert counted_texts(base, sequence) == [f"2<end>{behind}", f"6<end>{behind}"]


@pytest.mark.parametrize("template", [CLOSED, MARKED], ids=["prefixes", "marks"])
def test_answers_of_the_prompt_are_not_counted(tiny, template):
    base = with_template(tiny, template)
    context = (turn("user", "1+1"), turn("assistant", "2"), turn("user", "3+3"))
    [one] = encoded(base, "6", context=context)
    assert counted_texts(base, one) == ["6<end>+"]
    [several] = encoded(base, TURNS, context=context)
    assert [text[0] for text in counted_texts(base, several)] == ["2", "6"]
    assert whole(base, several).startswith("1+1+=2<end>+3+3+=")


def test_a_pair_has_two_sequences_of_one_row_the_chosen_one_first(tiny):
    chosen, rejected = encoded(tiny, "2", "33")
    assert [(s.role, len(s.counted)) for s in (chosen, rejected)] == [("chosen", 2), ("rejected", 3)]


def test_a_system_message_stands_before_the_question_or_folds_into_it(tiny):
    base = with_template(tiny, "{% for m in messages %}{{ m.role[0] }}{{ m.content }};{% endfor %}")
    texts = {
        role: base.tokenizer.decode(encoded(base, "2", system_role=role, system="0")[0].ids)
        for role in ("system", "fold")
    }
    unknown = base.tokenizer.unk_token  # a letter, here that of the role
    assert texts["system"] == f"{unknown}0;{unknown}1+1;{unknown}2;<end>"
    assert texts["fold"].startswith(f"{unknown}0{unknown}{unknown}1+1;")


def test_what_is_too_long_is_refused_or_loses_its_end(tiny):
    with pytest.raises(SpecError, match=r"have 8 tokens, above data.max_tokens=6; raise it"):
        encoded(tiny, "2345", max_tokens=6)
    [sequence] = encoded(tiny, "2345", max_tokens=6, overlong="truncate")
    assert whole(tiny, sequence) == "1+1234"
    assert counted_texts(tiny, sequence) == ["234"]
    with pytest.raises(SpecError, match=r"leaves nothing of its completion within data.max_tokens=3"):
        encoded(tiny, "2345", max_tokens=3, overlong="truncate")


@pytest.mark.parametrize(
    ("template", "completion", "message"),
    [
        (COUNTING, TURNS, "renders the beginning of a conversation otherwise"),
        (SILENT, "2", "leaves given answers out"),
        (None, "2", "the tokenizer has no chat template; set data.format=plain"),
    ],
    ids=["counting", "silent", "none"],
)
def test_a_template_that_does_not_tell_answers_is_refused(tiny, template, completion, message):
    with pytest.raises(SpecError, match=message):
        encoded(with_template(tiny, template), completion)


def test_a_prompt_that_merges_with_its_completion_is_counted_from_where_they_differ(tiny):
    """As TRL does it: the token that holds both is the completion's."""

    class Merging:
        eos_token, eos_token_id = "", 9
        words = ("a ", "a", " b", "b")

        def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
            ids = []
            while text:
                word = next(w for w in self.words if text.startswith(w))
                ids.append(self.words.index(word))
                text = text[len(word) :]
            return {"input_ids": ids}

    base = dataclasses.replace(tiny, tokenizer=Merging(), eos_ids=(9,))
    [sequence] = encoded(base, " b", prompt="aa", format="plain")
    assert (sequence.ids, sequence.counted) == ((1, 0, 3, 9), (1, 2, 3))
