"""What a training set is: the content of the rows that are used, from whatever file they come."""

from __future__ import annotations

import gzip
import itertools
import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sweeps.manifest import training_rows
from sweeps.manifest import training_set as module
from sweeps.manifest.data_files import file_digest
from sweeps.manifest.resolve_data import resolve_data
from sweeps.manifest.training_rows import rows_used
from sweeps.manifest.training_set import training_set
from sweeps.spec import DataSpec, SpecError, group_from_dict

ROWS = [{"problem": f"{n}+1=", "answer": str(n + 1), "hard": n % 3, "note": "x"} for n in range(20)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def written(folder: Path, rows: list[dict], name: str = "set.jsonl") -> str:
    file = folder / name
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), file)
    elif name.endswith(".gz"):
        file.write_bytes(gzip.compress(text.encode()))
    elif name.endswith(".csv"):
        lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
        file.write_text("\n".join(lines) + "\n")
    else:
        file.write_text(text)
    return str(file)


def resolved(path: str, **fields) -> DataSpec:
    return group_from_dict("data", resolve_data({"path": path, **fields})[0])


def test_the_form_of_the_file_its_name_and_columns_that_are_not_read_change_nothing(tmp_path):
    names = ("a.jsonl", "b.jsonl.gz", "c.csv", "d.parquet")
    specs = [resolved(written(tmp_path, ROWS, name)) for name in names]
    specs.append(resolved(written(tmp_path, [{**row, "note": "other"} for row in ROWS], "e.jsonl")))
    assert len({spec.digest for spec in specs}) == 1
    assert {(spec.num_rows, spec.has_answers) for spec in specs} == {(20, True)}


def test_a_small_file_is_read_once_for_all_draws_from_it_until_it_changes(tmp_path, monkeypatch):
    reads = []
    stream = training_rows.stream_rows
    monkeypatch.setattr(training_rows, "stream_rows", lambda *a: reads.append(a) or stream(*a))
    path = written(tmp_path, ROWS)
    draws = [resolved(path, limit=5, limit_by="content", subset_seed=seed).digest for seed in range(6)]
    assert (len(set(draws)), len(reads)) == (6, 1)
    written(tmp_path, [{**row, "answer": "0"} for row in ROWS])
    changed = resolved(path, limit=5, limit_by="content", subset_seed=0).digest
    assert (changed not in draws, len(reads)) == (True, 2)


def test_rows_beyond_the_limit_change_nothing_and_those_before_it_do(tmp_path):
    short = resolved(written(tmp_path, ROWS[:10], "short.jsonl"))
    limited = resolved(written(tmp_path, ROWS, "long.jsonl"), limit=10)
    assert (limited.digest, limited.num_rows) == (short.digest, 10)
    reordered = resolved(written(tmp_path, ROWS[9::-1], "back.jsonl"))
    assert reordered.digest != short.digest


def test_difficulty_counts_where_the_order_reads_it_only(tmp_path):
    path, other = written(tmp_path, ROWS), written(tmp_path, [{**r, "hard": 1} for r in ROWS], "o.jsonl")
    shuffled = [resolved(p, difficulty_field="hard").digest for p in (path, other)]
    assert shuffled[0] == shuffled[1]
    ordered = [resolved(p, difficulty_field="hard", order="easy_to_hard").digest for p in (path, other)]
    assert len({*ordered, *shuffled}) == 3
    easier = resolved(path, difficulty_field="-hard", order="easy_to_hard")
    assert training_set(easier).difficulty.tolist() == [-(n % 3) for n in range(20)]


def test_a_subset_is_chosen_by_content_whatever_the_order_of_the_file(tmp_path):
    def chosen(rows: list[dict], seed: int = 0) -> set[str]:
        spec = resolved(written(tmp_path, rows), subset=0.5, subset_seed=seed)
        return {row.prompt for row in rows_used(spec)}

    assert chosen(ROWS) == chosen(ROWS[::-1])
    assert chosen(ROWS) != chosen(ROWS, seed=1)
    assert 3 <= len(chosen(ROWS)) <= 17


def test_a_limit_by_content_draws_rows_whatever_the_order_of_the_file_and_grows_by_adding(tmp_path):
    def drawn(rows: list[dict], limit: int, seed: int = 0) -> list[str]:
        spec = resolved(written(tmp_path, rows), limit=limit, limit_by="content", subset_seed=seed)
        assert spec.num_rows == min(limit, len(rows))
        return [row.prompt for row in rows_used(spec)]

    draws = [drawn(ROWS, limit) for limit in range(1, 22)]
    for smaller, larger in itertools.pairwise(draws):
        assert set(smaller) <= set(larger)
    assert draws[-1] == [row["problem"] for row in ROWS]
    assert drawn(ROWS[::-1], 5) == draws[4][::-1]
    assert len({drawn(ROWS, 1, seed)[0] for seed in range(60)}) > 15


@pytest.mark.parametrize(
    ("row", "prompt", "system", "answer"),
    [
        ({"prompt": "1+1?", "completion": "2"}, "1+1?", None, None),
        (
            {"prompt": [{"role": "user", "content": "1+1?"}], "reward_model": {"ground_truth": "2"}},
            "1+1?",
            None,
            "2",
        ),
        (
            {
                "messages": [
                    {"role": "system", "content": "Add."},
                    {"role": "user", "content": "1+1?"},
                    {"role": "assistant", "content": "2"},
                ]
            },
            "1+1?",
            "Add.",
            None,
        ),
        ({"question": "1+1?", "answer": "One and one is <<1+1=2>>2.\n#### 2"}, "1+1?", None, "2"),
        ({"problem": "1+1?", "answer": 2}, "1+1?", None, "2"),
    ],
    ids=["completion", "verl", "messages", "gsm8k", "problem"],
)
def test_common_layouts_are_told_by_their_first_row(tmp_path, row, prompt, system, answer):
    spec = resolved(written(tmp_path, [row, row]))
    [first, _] = rows_used(spec)
    assert (first.prompt, first.system, first.answer) == (prompt, system, answer)
    assert spec.has_answers is (answer is not None)


def test_answers_that_nobody_asked_for_may_be_missing_and_others_may_not(tmp_path):
    path = written(tmp_path, [*ROWS, {"problem": "1+2="}])
    assert not resolved(path).has_answers
    with pytest.raises(SpecError, match=r"set\.jsonl line 21 has problem; choose one"):
        resolved(path, answer_field="answer")


@pytest.mark.parametrize(
    ("fields", "rows", "message"),
    [
        (
            {"prompt_field": "text"},
            ROWS,
            r"data.prompt_field='text': .*line 1 has problem, answer, hard, note",
        ),
        ({}, [{"text": "a"}], "name the column of the prompts with data.prompt_field"),
        ({}, [*ROWS, {"problem": " ", "answer": "1"}], "line 21: problem=' ': the prompt is empty text"),
        ({"difficulty_field": "note", "order": "cyclic"}, ROWS, "note='x': is no number"),
        ({"difficulty_field": "hard", "order": "cyclic"}, ROWS, "hard=0.0: must be above 0"),
        ({"order": "easy_to_hard"}, ROWS, "needs a difficulty; name its column"),
        ({"subset": 1e-9}, ROWS, "subset=1e-09 of it leaves none"),
        ({"digest": "0" * 64}, ROWS, "holds other rows"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_place(tmp_path, fields, rows, message):
    with pytest.raises(SpecError, match=message) as refused:
        resolved(written(tmp_path, rows), **fields)
    assert len(str(refused.value)) < 500


def test_a_setting_of_no_set_is_refused():
    with pytest.raises(SpecError, match=r"data\.order='file': there is no training set"):
        resolve_data({"path": None, "order": "file"})
    assert resolve_data({"path": None}) == ({}, None)


def test_a_large_set_is_mapped_from_the_cache_and_made_anew_where_that_is_lost(tmp_path, monkeypatch):
    small = resolved(path := written(tmp_path, ROWS))
    monkeypatch.setattr(module, "CACHE_FROM_BYTES", 100)
    large = resolved(path)
    assert large == small
    [cached] = (tmp_path / "cache" / "emsweep" / "training-sets").iterdir()
    assert cached.name == f"{large.digest}-{file_digest(cached)}.arrow"

    def change_one_prompt():
        written_as = cached.read_bytes()
        assert written_as.count(b"19+1=") == 1
        cached.write_bytes(written_as.replace(b"19+1=", b"91+1="))

    for spoil in (lambda: None, change_one_prompt, lambda: cached.write_bytes(b"half"), cached.unlink):
        spoil()
        training_set.cache_clear()
        opened = training_set(large)
        assert [row.prompt for row in opened.rows([19, 0])] == ["19+1=", "0+1="]
        assert [row.prompt for row in opened.longest(2)] == ["10+1=", "11+1="]
    training_set.cache_clear()


def test_a_changed_large_file_is_read_again_and_an_unchanged_one_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CACHE_FROM_BYTES", 100)
    path = written(tmp_path, ROWS)
    first = resolved(path)
    monkeypatch.setattr(module, "_build", lambda data: pytest.fail("was read again"))
    assert resolved(path) == first
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "CACHE_FROM_BYTES", 100)
    written(tmp_path, ROWS[:-1])
    assert resolved(path).num_rows == 19


PACKED = gzip.compress(b'{"problem": "1+1=", "answer": "2"}\n' * 20_000)
ROW = b'{"problem": "1+1=", "answer": "2"}\n'


@pytest.mark.parametrize(
    ("name", "content", "fields"),
    [
        ("bom.jsonl", b"\xef\xbb\xbf" + ROW, {}),
        ("bom.csv", b"\xef\xbb\xbfproblem,answer\r\n1+1=,2\r\n", {}),
        ("no-end.jsonl", ROW.strip(), {}),
        ("windows.jsonl", ROW.replace(b"\n", b"\r\n"), {}),
        (
            "nested.parquet",
            pa.table({"d": [{"q": {"text": "1+1="}, "a": 2}]}),
            {"prompt_field": "d.q.text", "answer_field": "d.a"},
        ),
        ("codes.parquet", pa.table({"problem": pa.array(["1+1="]).dictionary_encode(), "answer": ["2"]}), {}),
    ],
)
def test_odd_files_that_say_the_same_are_the_same_set(tmp_path, name, content, fields):
    file, plain = tmp_path / name, tmp_path / "plain.jsonl"
    plain.write_bytes(ROW)
    pq.write_table(content, file) if isinstance(content, pa.Table) else file.write_bytes(content)
    assert resolved(str(file), **fields).digest == resolved(str(plain)).digest


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.jsonl", b"", "is empty; a training set needs rows"),
        ("blank.jsonl", b"\n\n", "is empty; a training set needs rows"),
        ("head.csv", b"problem,answer\n", "is empty; a training set needs rows"),
        ("short.csv", b"problem,answer\n1+1=,2\n1+2=\n", "line 3: has 1 cell under 2 names"),
        ("long.csv", b"problem,answer\n1+1=,2,3\n", "line 2: has 3 cells under 2 names"),
        ("open.csv", b'problem,answer\n"1+1=,2\n', "line 2: is not CSV"),
        ("half.jsonl.gz", PACKED[: len(PACKED) // 2], "cannot be unpacked .* copy the file again"),
        ("spoiled.jsonl.gz", PACKED[:-8] + bytes(8), "cannot be unpacked .* copy the file again"),
        ("plain.jsonl.gz", ROW, "cannot be unpacked"),
        ("packed.jsonl", PACKED, "is packed with gzip, which its name does not say"),
        ("words.jsonl", ROW.decode().encode("utf-16"), "line 1: is not UTF-8 text"),
        (
            "struct.parquet",
            pa.table({"problem": [{"q": "1+1="}]}),
            "row 0: problem=.* holds no prompt but an ob",
        ),
        ("none.parquet", pa.table({"problem": pa.array([], pa.string())}), "is empty"),
        ("spoiled.parquet", b"PAR1" * 9, "is not a Parquet file"),
        ("spoiled.arrow", b"ARROW1" * 9, "is not an Arrow file"),
        ("null.jsonl", b'{"problem": null}\n', r"has problem: none of .* \(problem holds nothing there\)"),
        (
            "wide.parquet",
            pa.table({f"c{n}": ["x"] for n in range(3000)}),
            "row 0 has c0, c1, .* none of prompt",
        ),
        ("deep.jsonl", json.dumps({"problem": ["x" * 10**5]}).encode(), "holds no chat messages"),
    ],
)
def test_odd_files_are_refused_in_one_short_message(tmp_path, name, content, message):
    file = tmp_path / name
    pq.write_table(content, file) if isinstance(content, pa.Table) else file.write_bytes(content)
    for fields in {}, {"prompt_field": "nope"}:
        with pytest.raises(SpecError) as refused:
            resolved(str(file), **fields)
        assert len(str(refused.value)) < 600
        if not fields:
            assert re.search(message, str(refused.value))
