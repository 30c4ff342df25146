import json
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sweeps.manifest.resolve import resolve_eval, resolve_example
from sweeps.manifest.row_fields import read_items
from sweeps.spec import EvalSpec, SpecError

USER, SYSTEM = {"role": "user", "content": "1+1="}, {"role": "system", "content": "Be brief."}


def written(tmp_path, *rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def items_of(path, **settings):
    return read_items(path, question_field="problem", answer_field="answer", **settings)


def example(path, **settings):
    config = {"path": path, "text_field": "problem", "format": "chat", "system": None}
    return resolve_example(config | settings)[0]


@pytest.mark.parametrize(
    ("prompt", "question", "system"),
    [
        ("1+1=", "1+1=", None),
        ([USER], "1+1=", None),
        (USER, "1+1=", None),
        ([SYSTEM, USER], "1+1=", "Be brief."),
        ([{"role": "user", "content": [{"type": "text", "text": "1+"}, {"text": "1="}]}], "1+1=", None),
        ([USER | {"name": "ann", "tool_calls": None}], "1+1=", None),
    ],
)
def test_examples_and_benchmarks_read_a_prompt_alike(tmp_path, prompt, question, system):
    path = written(tmp_path, {"problem": prompt, "answer": "2"})
    (item,) = items_of(path)
    read = example(path)
    assert (item.question, item.system) == (question, system)
    assert (read["prompts"], read["system"]) == ([question], system)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (None, r"nothing \(null\)"),
        ("", "empty text"),
        (" \n\t", "empty text"),
        (7, "no prompt but int"),
        (True, "no prompt but bool"),
        (float("nan"), r"no number \(nan\)"),
        ({}, "an object"),
        ({"text": "1+1="}, "an object"),
        ([], "an empty list"),
        (["1+1="], "holds no chat messages"),
        ([["user", "1+1="]], "holds no chat messages"),
        ([{"from": "human", "value": "1+1="}], "holds no chat messages"),
        ([{"role": None, "content": "1+1="}], "holds no chat messages"),
        ([USER, USER], "messages of user, user"),
        ([USER, SYSTEM], "messages of user, system"),
        ([SYSTEM], "messages of system"),
        ([USER, {"role": "assistant", "content": "2"}], "messages of user, assistant"),
        ([{"role": "developer", "content": "Be brief."}, USER], "messages of developer, user"),
        ([{"role": "User", "content": "1+1="}], "messages of User"),
        ([{"role": "user", "content": None}], r"the user message, which holds nothing \(null\)"),
        ([{"role": "user"}], r"the user message, which holds nothing \(null\)"),
        ([{"role": "user", "content": ""}], "the user message is empty"),
        ([{"role": "user", "content": []}], "an empty list"),
        ([{"role": "user", "content": 2}], "holds int"),
        ([{"role": "user", "content": {"text": "1+1="}}], "an object"),
        ([SYSTEM | {"content": None}, USER], r"the system message, which holds nothing \(null\)"),
        ([SYSTEM | {"content": ""}, USER], "the system message is empty"),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}],
            "a part of the user message",
        ),
        ([{"role": "user", "content": [{"type": "text", "text": None}]}], "a part of the user message"),
        ([{"role": "user", "content": ["1+1="]}], "a part of the user message"),
        (str([USER]), "chat messages turned into text"),
        (json.dumps([SYSTEM, USER]), "chat messages turned into text"),
        (json.dumps(USER), "chat messages turned into text"),
        ("1+1=\ud83d", "half a character"),
        ([{"role": "user", "content": "\udcff"}], "half a character"),
    ],
)
def test_what_is_no_prompt_is_refused_with_its_row_and_value(tmp_path, prompt, message):
    path = written(tmp_path, {"problem": "0+0=", "answer": "0"}, {"problem": prompt, "answer": "2"})
    for read in (items_of, lambda p: example(p, rows=[1])):
        with pytest.raises(SpecError, match=message) as caught:
            read(path)
        assert f"{path} line 2" in str(caught.value)
        assert "_field" in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "gold", "label"),
    [
        ("2", "2", "2"),
        (" 2 ", " 2 ", " 2 "),
        (2, "2", "2"),
        (27.0, "27", "27.0"),
        (0.5, "0.5", "0.5"),
        (1e300, "1e+300", "1e+300"),
        (["2"], "2", "2"),
        ([2], "2", "2"),
        ("none", "none", "none"),
        (2**63 + 1, "9223372036854775809", "9223372036854775809"),
        ("[0, 1]", "[0, 1]", "[0, 1]"),
        (r"\{'a'\}", r"\{'a'\}", r"\{'a'\}"),
    ],
)
def test_a_right_answer_is_text_or_a_number(tmp_path, answer, gold, label):
    path = written(tmp_path, {"problem": "1+1=", "answer": answer})
    assert items_of(path)[0].gold == gold
    assert example(path, answer_field="answer")["answers"] == [label]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, r"nothing \(null\)"),
        ("", "empty text"),
        ("  ", "empty text"),
        ([], r"nothing \(null\)"),
        ([None], r"nothing \(null\)"),
        ([""], "empty text"),
        (["2", "3"], r"holds 2 answers; name one of them, as .*answer\.0"),
        ([["2"]], "a list"),
        ({"value": "2"}, "an object"),
        ({}, "an object"),
        (True, "bool"),
        (float("nan"), r"no number \(nan\)"),
        (float("inf"), r"no number \(inf\)"),
        ("nan", "where it has no answer"),
        ("None", "where it has no answer"),
        (" null\n", "where it has no answer"),
        ("<NA>", "where it has no answer"),
        ("\udc80", "half a character"),
        ("['2']", "turned into text"),
        ('["2", "3"]', "turned into text"),
        ("{'value': 2}", "turned into text"),
    ],
)
def test_what_is_no_answer_is_refused_for_golds_and_labels_alike(tmp_path, answer, message):
    path = written(tmp_path, {"problem": "0+0=", "answer": "0"}, {"problem": "1+1=", "answer": answer})
    for read in (items_of, lambda p: example(p, rows=[1], answer_field="answer")):
        with pytest.raises(SpecError, match=message) as caught:
            read(path)
        assert f"{path} line 2" in str(caught.value)
        assert "_field" in str(caught.value)
    assert [item.number for item in items_of(path, drop_items=(2,))] == [1]
    assert [item.number for item in items_of(path, limit=1)] == [1]


def test_parquet_columns_of_every_type_are_read_or_refused(tmp_path):
    def read(**columns):
        pq.write_table(pa.table(columns), tmp_path / "x.parquet")
        return items_of(str(tmp_path / "x.parquet"))[0]

    assert read(problem=[[USER]], answer=[Decimal("2.50")]).gold == "2.50"
    assert read(problem=["1+1="], answer=pa.array([2.0])).gold == "2"
    for answer in (pa.array([None], pa.float64()), pa.array([b"2"]), pa.array([0], pa.timestamp("s"))):
        with pytest.raises(SpecError, match=r"row 0 .*holds no answer but"):
            read(problem=["1+1="], answer=answer)
    with pytest.raises(SpecError, match="holds no prompt but bytes"):
        read(problem=pa.array([b"1+1="]), answer=["2"])


def test_items_to_drop_must_be_there(tmp_path):
    path = written(tmp_path, {"problem": "1+1=", "answer": "2"})
    for numbers, message in (
        ((2,), "has items 1 to 1"),
        ((0,), "has items 1 to 1"),
        ((1,), "leaves no item"),
    ):
        with pytest.raises(SpecError, match=message):
            items_of(path, drop_items=numbers)


def test_a_system_message_of_the_file_is_never_lost(tmp_path):
    path = written(tmp_path, {"problem": [SYSTEM, USER], "answer": "2"})
    assert items_of(path, system="Be brief.")[0].system == "Be brief."
    with pytest.raises(SpecError, match=r"beside eval.system='Think.'; eval.system=null"):
        items_of(path, system="Think.")
    with pytest.raises(SpecError, match=r"eval\.format=plain has no place"):
        items_of(path, format="plain")
    with pytest.raises(SpecError, match=r"example\.format=plain has no place"):
        example(path, format="plain")


def test_rows_that_share_an_id_cannot_be_named_by_it(tmp_path):
    row = {"problem": "1+1="}
    path = written(tmp_path, row | {"id": "a"}, row | {"id": "a"}, row, row | {"id": 7})
    assert example(path, ids=["7"])["rows"] == [3]
    with pytest.raises(SpecError, match=r"example.ids='a': is that of rows \[0, 1\]"):
        example(path, ids=["a"])
    with pytest.raises(SpecError, match="is not in"):
        example(path, ids=["None"])


def test_a_benchmark_of_messages_is_refused_or_read_when_it_is_planned(tmp_path):
    good = written(tmp_path, {"problem": [USER], "answer": "2"})
    config = {"path": good, "question_field": "problem", "answer_field": "answer"}
    assert resolve_eval(config)[0]["digest"]
    bad = written(tmp_path, {"problem": [USER, USER], "answer": "2"})
    with pytest.raises(SpecError, match="messages of user, user"):
        resolve_eval(config | {"path": bad, "digest": None})


@pytest.mark.parametrize("change", [{"path": 5}, {"limit": "x"}, {"question_field": None}, {"drop_items": 3}])
def test_settings_of_the_wrong_type_are_refused_before_the_file_is_read(tmp_path, change):
    config = {"path": written(tmp_path, {"problem": "a", "answer": "2"}), "limit": EvalSpec().limit}
    with pytest.raises(SpecError, match=f"eval.{next(iter(change))}"):
        resolve_eval(config | change)
