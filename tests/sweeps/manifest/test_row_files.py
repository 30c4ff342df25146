import gzip
import os
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sweeps.manifest.row_files import dig, read_rows, row_name, stream_rows
from sweeps.spec import SpecError

packed = partial(gzip.compress, mtime=0)

LINES = '{"a": "1"}\n\n{"a": "2"}\n'


def test_nested_fields_are_reached_by_a_dotted_name_and_lists_by_a_number():
    assert dig({"a": {"b": 1}}, "a.b") == 1
    assert dig({"a.b": 2, "a": {"b": 1}}, "a.b") == 2
    assert dig({"a": [{"b": 1}, {"b": 3}]}, "a.1.b") == 3
    for row in ({"a": 1}, {"a": [1]}, {"a": "text"}):
        with pytest.raises(KeyError):
            dig(row, "a.b")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.jsonl", LINES.encode()),
        ("x.json", LINES.encode()),
        ("bom.jsonl", b"\xef\xbb\xbf" + LINES.encode()),
        ("dos.jsonl", LINES.replace("\n", "\r\n").encode()),
        ("x.jsonl.gz", packed(LINES.encode())),
        ("X.JSONL.GZ", packed(b"\xef\xbb\xbf" + LINES.encode())),
        ("x.csv", b"a\n1\n2\n"),
        ("bom.csv", b"\xef\xbb\xbfa\r\n1\r\n2\r\n"),
        ("x.csv.gz", packed(b"a\n1\n\n2\n")),
    ],
)
def test_a_file_of_rows_is_read_whatever_its_form(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert read_rows(str(tmp_path / name), "key") == [{"a": "1"}, {"a": "2"}]


def test_parquet_is_read_packed_or_not(tmp_path):
    pq.write_table(pa.table({"a": ["1", "2"]}), tmp_path / "x.parquet")
    (tmp_path / "y.parquet.gz").write_bytes(packed((tmp_path / "x.parquet").read_bytes()))
    for name in ("x.parquet", "y.parquet.gz"):
        assert read_rows(str(tmp_path / name), "key") == [{"a": "1"}, {"a": "2"}]
    assert row_name(str(tmp_path / "x.parquet"), 1).endswith("row 1")


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_two_columns_of_one_name_are_refused_and_not_read_as_the_last(tmp_path, form):
    table = pa.table([pa.array([k]) for k in "123"], names=["a", "b", "a"])
    path = tmp_path / f"x.{form}"
    if form == "parquet":
        pq.write_table(table, path)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
    with pytest.raises(SpecError, match=r"x\.\w+': names the column 'a' twice; give every column"):
        list(stream_rows([path], "data.path"))


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.jsonl")
    with pytest.raises(SpecError, match="is no file that can be read twice"):
        list(stream_rows([tmp_path / "x.jsonl"], "data.path"))


def test_rows_are_named_by_their_line(tmp_path):
    lines, table = tmp_path / "x.jsonl", tmp_path / "x.csv"
    lines.write_text(LINES)
    assert row_name(str(lines), 1) == f"{lines} line 3"
    table.write_text('a,b\n"two\nlines",1\n3,4\n')
    assert read_rows(str(table), "key") == [{"a": "two\nlines", "b": "1"}, {"a": "3", "b": "4"}]
    assert [row_name(str(table), i)[-6:] for i in (0, 1)] == ["line 2", "line 4"]


def test_a_number_of_more_digits_than_a_float_holds_keeps_them(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 0.12345678901234567890123, "b": 12345678901234567890.5, "c": 0.1, "d": 1e-7}')
    (row,) = read_rows(str(path), "eval.path")
    assert [str(value) for value in row.values()] == [
        "0.12345678901234567890123",
        "12345678901234567890.5",
        "0.1",
        "1e-07",
    ]


def test_a_long_cell_is_read_whole(tmp_path):
    (tmp_path / "x.csv").write_text(f"a\n{'long ' * 100_000}\n")
    assert len(read_rows(str(tmp_path / "x.csv"), "key")[0]["a"]) == 500_000


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", b"\xff\xfe{\x00", "line 1: is not UTF-8 text"),
        ("x.jsonl", b'{"a": 1}\n\n\xff', "line 3: is not UTF-8 text"),
        ("x.jsonl", b'{"a": 1}\n{', "line 2: is not JSON"),
        ("x.jsonl", b"[" * 100_000, "is not JSON"),
        ("x.json", b'[\n{"a": 1}\n]', "write one JSON object a line"),
        ("x.jsonl", b'"text"', "must be a JSON object, not str"),
        ("x.jsonl", b'{"a": 1, "b": 2, "a": 3}', "names the key 'a' twice"),
        ("x.jsonl", b'{"a": {"b": 2, "b": 3}}', "names the key 'b' twice"),
        ("x.jsonl", packed(b"{}"), r"end its name in \.gz"),
        ("x.jsonl.gz", b'{"a": 1}', "cannot be unpacked"),
        ("x.jsonl.gz", packed(b'{"a": 1}\n' * 9999)[:40], "cannot be unpacked"),
        ("x.csv", b"a,b\n1,2,3\n", "line 2: has 3 cells under 2 names"),
        ("x.csv", b"a,b\n1\n", "line 2: has 1 cell under 2 names"),
        ("x.csv", b"a,a\n1,2\n", "names the column 'a' twice"),
        ("x.csv", b"a,\n1,2\n", "a column without a name"),
        ("x.csv", b'a\n"open\n', "is not CSV"),
        ("x.csv", b"", "has no rows"),
        ("x.csv", b"a,b\n", "has no rows"),
        ("x.parquet", b"PAR1" + b"\0" * 80, "is not a Parquet file"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SpecError, match=message) as caught:
        read_rows(str(tmp_path / name), "eval.path")
    assert "eval.path=" in str(caught.value)
    assert len(str(caught.value)) < 600


def test_what_unpacks_beyond_all_use_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("sweeps.manifest.row_files.MAX_BYTES", 2**20)
    (tmp_path / "x.jsonl.gz").write_bytes(packed(b" " * 2**21))
    with pytest.raises(SpecError, match="holds more than"):
        read_rows(str(tmp_path / "x.jsonl.gz"), "eval.path")


@pytest.mark.parametrize(
    "path", ["x" * 300, "no\0path", "a/" + "ü" * 200, "pkg://trainers/nothing.jsonl", "."]
)
def test_what_names_no_file_is_refused_in_one_line(path):
    with pytest.raises(SpecError, match=r"is no path|no such file|is a folder") as caught:
        read_rows(path, "eval.path")
    assert len(str(caught.value)) < 600
