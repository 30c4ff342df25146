"""What rows give to train on: told by their layout as TRL tells it; refused where none can train on it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sweeps.manifest.given_rows import Given
from sweeps.manifest.resolve_data import resolve_data
from sweeps.manifest.training_rows import TrainingRow, rows_used
from sweeps.manifest.training_set import training_set
from sweeps.spec import DataSpec, SpecError, group_from_dict


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def spec_of(folder: Path, rows: list[dict], targets: str = "completions", **fields) -> DataSpec:
    file = folder / "set.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return group_from_dict("data", resolve_data({"path": str(file), "targets": targets, **fields})[0])


def first_row(folder: Path, row: dict, targets: str = "completions", **fields) -> TrainingRow:
    [first, _] = rows_used(spec_of(folder, [row, row], targets, **fields))
    return first


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


ASKED, SAID = turn("user", "1+1?"), turn("assistant", "2")
AGAIN, THEN = turn("user", "and 1?"), turn("assistant", "3")
SYSTEM = turn("system", "Add.")


@pytest.mark.parametrize(
    ("row", "prompt", "given"),
    [
        ({"prompt": "1+1?", "completion": "2"}, "1+1?", Given(completions=("2",))),
        (
            {"question": "1+1?", "answer": "It is 2.\n#### 2"},
            "1+1?",
            Given(completions=("It is 2.\n#### 2",)),
        ),
        ({"problem": "1+1?", "solution": "1, 2", "answer": "2"}, "1+1?", Given(completions=("1, 2",))),
        ({"prompt": [ASKED], "completion": [SAID]}, "1+1?", Given(completions=("2",))),
        ({"messages": [SYSTEM, ASKED, SAID]}, "1+1?", Given(completions=("2",))),
        ({"messages": [ASKED, SAID, AGAIN, THEN]}, "1+1?", Given(completions=((SAID, AGAIN, THEN),))),
        (
            {"prompt": [ASKED, SAID, AGAIN], "completion": [THEN]},
            "and 1?",
            Given(completions=("3",), context=(ASKED, SAID, AGAIN)),
        ),
        ({"prompt": "1+1?", "messages": [ASKED, SAID]}, "1+1?", Given(completions=("2",))),
    ],
    ids=["text", "gsm8k", "solution", "chat", "messages", "turns", "context", "prompt beside messages"],
)
def test_common_layouts_of_completions_are_told_by_their_first_row(tmp_path, row, prompt, given):
    first = first_row(tmp_path, row)
    assert (first.prompt, first.given) == (prompt, given)
    assert first.system == ("Add." if SYSTEM in row.get("messages", ()) else None)


PAIRS = [
    {"prompt": "1+1? ", "chosen": "2", "rejected": "3"},
    {"chosen": "Q: 1+1? A: 2", "rejected": "Q: 1+1? A: 3"},
    {"prompt": [ASKED], "chosen": [SAID], "rejected": [turn("assistant", "3")]},
    {"chosen": [ASKED, SAID], "rejected": [ASKED, turn("assistant", "3")]},
    {"chosen": [SYSTEM, ASKED, SAID, AGAIN, THEN], "rejected": [SYSTEM, ASKED, SAID, AGAIN, SAID]},
    {"prompt": "1+1?", "chosen": [ASKED, SAID], "rejected": [ASKED, turn("assistant", "3")]},
]


@pytest.mark.parametrize("row", PAIRS, ids=["text", "shared text", "chat", "shared chat", "turns", "both"])
def test_pairs_have_the_prompt_that_trl_finds(tmp_path, row):
    trl = pytest.importorskip("trl.data_utils", reason="trl is a test extra")
    theirs = trl.maybe_extract_prompt(dict(row))
    first = first_row(tmp_path, row, "pairs", answer_field=None)
    chosen, rejected = first.given.completions
    if isinstance(theirs["prompt"], str):
        assert (first.prompt, chosen, rejected) == tuple(theirs[k] for k in ("prompt", "chosen", "rejected"))
    else:
        context = list(first.given.context) or [
            *([turn("system", first.system)] if first.system else []),
            turn("user", first.prompt),
        ]
        assert context == theirs["prompt"]
        assert [[turn("assistant", text)] for text in (chosen, rejected)] == [
            theirs["chosen"],
            theirs["rejected"],
        ]


def test_labelled_completions_are_desirable_or_not(tmp_path):
    row = {"prompt": "1+1?", "completion": "2", "label": True}
    assert first_row(tmp_path, row, "labels").given == Given(completions=("2",), desirable=True)
    named = {"prompt": "1+1?", "text": "3", "good": "False"}
    given = first_row(tmp_path, named, "labels", completion_field="text", desirable_field="good").given
    assert given == Given(completions=("3",), desirable=False)


def test_what_is_given_changes_the_identity_where_it_is_read_only(tmp_path):
    rows, others = ([{"prompt": "1+1?", "completion": text}] * 2 for text in ("2", "3"))
    assert spec_of(tmp_path, rows, "").digest == spec_of(tmp_path, others, "").digest
    digests = {
        spec_of(tmp_path, rows, "").digest,
        *(spec_of(tmp_path, r).digest for r in (rows, others)),
    }
    assert len(digests) == 3


def test_a_subset_has_the_same_rows_whatever_is_read_of_them(tmp_path):
    rows = [{"prompt": f"{n}+1?", "completion": str(n + 1)} for n in range(40)]
    kept = [
        [row.prompt for row in rows_used(spec_of(tmp_path, rows, targets, subset=0.5))]
        for targets in ("", "completions")
    ]
    assert kept[0] == kept[1]
    assert 10 < len(kept[0]) < 30


def test_a_large_set_is_looked_up_with_what_it_gives(tmp_path, monkeypatch):
    monkeypatch.setattr("sweeps.manifest.training_set.CACHE_FROM_BYTES", 1)
    rows = [{"messages": [ASKED, SAID, AGAIN, turn("assistant", str(n))]} for n in range(5)]
    opened = training_set(spec_of(tmp_path, rows))
    [last] = opened.rows([4])
    assert last.given.completions == ((SAID, AGAIN, turn("assistant", "4")),)
    assert list((tmp_path / "cache").rglob("*.arrow"))


@pytest.mark.parametrize(
    ("row", "targets", "fields", "message"),
    [
        ({"prompt": "1+1?"}, "completions", {}, "set.jsonl line 1 has .'prompt'.: none of completion, solut"),
        (
            {"prompt": "1+1?", "completion": "2"},
            "completions",
            {"completion_field": "text"},
            "data.completion_field='text': .* line 1 has prompt, completion",
        ),
        (
            {"prompt": "1+1?", "completion": " "},
            "completions",
            {},
            "the completion is empty; fill it or drop",
        ),
        ({"prompt": "1+1?", "completion": "NaN"}, "completions", {}, "where it has no completion"),
        ({"prompt": "1+1?", "completion": {"a": 1}}, "completions", {}, "is no completion; give text"),
        ({"prompt": [ASKED], "completion": [AGAIN]}, "completions", {}, "must be the assistant's"),
        ({"prompt": "1+1?", "messages": [ASKED]}, "completions", {}, "none of completion"),
        ({"messages": [SAID, ASKED, SAID]}, "completions", {}, "holds no answer after a question"),
        ({"messages": [ASKED, turn("assistant", "")]}, "completions", {}, "assistant message is empty text"),
        (
            {"messages": [ASKED, SAID, AGAIN, THEN]},
            "completions",
            {"format": "plain"},
            "is a conversation, which data.format=plain has no place for",
        ),
        (
            {"prompt": "1+1?", "chosen": "2", "rejected": "2"},
            "pairs",
            {},
            "equals rejected; a pair needs two",
        ),
        (
            {"prompt": "1+1?", "chosen": "2"},
            "pairs",
            {},
            "data.rejected_field='rejected': .* has prompt, chosen",
        ),
        ({"chosen": "2", "rejected": "3"}, "pairs", {}, "shares no beginning with the rejected one"),
        ({"chosen": "Q: 2", "rejected": "Q: 2 or 3"}, "pairs", {}, "the completion is empty"),
        ({"prompt": "1+1?", "completion": "2", "label": 2}, "labels", {}, "is no label; give true or false"),
        ({"prompt": "1+1?", "completion": "2"}, "labels", {}, "data.desirable_field='label': .* has prompt"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_with_its_row(tmp_path, row, targets, fields, message):
    with pytest.raises(SpecError, match=message) as refusal:
        spec_of(tmp_path, [row], targets, **fields)
    assert len(str(refusal.value)) < 400


@pytest.mark.parametrize(
    ("first", "other", "message"),
    [
        ({"completion": None, "answer": "2"}, {"completion": "3", "answer": "2"}, "completion='3'.*'answer'"),
        ({"answer": "2"}, {"solution": "3", "answer": "2"}, "solution='3'.*'answer'"),
        ({"problem": "p", "completion": "c"}, {"problem": "p", "completion": "c"}, "prompt='1.1'.*'problem'"),
    ],
)
def test_a_column_that_the_first_row_lacks_is_not_passed_over_for_another(tmp_path, first, other, message):
    """Every row would be trained on by the wrong column."""
    asked = {"prompt": "1+1"}
    rows = [first if "problem" in first else {**asked, **first}, {**asked, **other}]
    with pytest.raises(SpecError, match=f"line 2: {message} would be read of every row"):
        spec_of(tmp_path, rows)


def test_a_column_that_is_named_or_empty_in_every_row_passes_nothing_over(tmp_path):
    rows = [{"prompt": "1+1", "completion": None, "answer": "2"}] * 2
    [row, _] = rows_used(spec_of(tmp_path, rows))
    assert row.given.completions == ("2",)
    rows[1] = {**rows[1], "completion": "3"}
    [_, row] = rows_used(spec_of(tmp_path, rows, completion_field="answer"))
    assert row.given.completions == ("2",)


def test_long_values_are_cut_in_messages(tmp_path):
    row = {"prompt": "1+1?", "chosen": "2" * 100_000, "rejected": "2" * 100_000}
    with pytest.raises(SpecError) as refusal:
        spec_of(tmp_path, [row], "pairs")
    assert len(str(refusal.value)) < 600
