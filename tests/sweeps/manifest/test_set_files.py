"""Folders and hub ids as training sets: the rows that ``datasets`` reads from the same place."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import datasets
import pytest

from sweeps.compose.file_paths import anchored
from sweeps.manifest.resolve_data import resolve_data
from sweeps.manifest.set_files import files_of
from sweeps.manifest.training_rows import rows_used
from sweeps.spec import DataSpec, SpecError, group_from_dict

ROWS = [{"problem": f"{n}+1=", "answer": str(n + 1), "hard": n % 3} for n in range(20)]
COMMIT = "c0ffee" * 6 + "c0ff"


@pytest.fixture(autouse=True)
def own_caches(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def resolved(path: Path | str, **fields) -> DataSpec:
    return group_from_dict("data", resolve_data({"path": str(path), **fields})[0])


def lines(file: Path, rows: list[dict]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def table(file: Path, rows: list[dict]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_list(rows).to_parquet(str(file))
    return file


def prompts(data: DataSpec) -> list[str]:
    return [row.prompt for row in rows_used(data)]


def test_a_saved_set_is_the_set_of_a_file_with_its_rows(tmp_path):
    """Saved whole, in shards, as a selection, as a split of several, or as an Arrow file."""
    whole = datasets.Dataset.from_list(ROWS)
    whole.save_to_disk(str(tmp_path / "one"))
    whole.save_to_disk(str(tmp_path / "shards"), num_shards=3)
    longer = datasets.Dataset.from_list([{"problem": "x", "answer": "y", "hard": 0}, *ROWS])
    longer.select(range(1, 21)).save_to_disk(str(tmp_path / "selected"))
    splits = datasets.DatasetDict({"test": longer, "train": whole})
    splits.save_to_disk(str(tmp_path / "splits"))
    expected = resolved(lines(tmp_path / "rows.jsonl", ROWS))
    [arrow] = (tmp_path / "one").glob("*.arrow")
    for place in ("one", "shards", "selected", "splits", arrow):
        found = resolved(tmp_path / place)
        assert (found.digest, found.num_rows, found.has_answers) == (expected.digest, 20, True)
    assert len(files_of(resolved(tmp_path / "shards"))) == 3
    assert resolved(tmp_path / "splits", split="test").num_rows == 21


CARD = """---
license: mit
configs:
- config_name: main
  data_files:
  - split: train
    path: main/train-*
  - split: test
    path: ["main/test-*", "more/**/*.parquet"]
- config_name: socratic
  data_files: socratic/*.parquet
---
# Sums
"""

LAYOUTS: dict[str, tuple[dict[str, int], str | None, list[tuple[str | None, str]]]] = {
    "card": (
        {
            "main/train-00000-of-00002.parquet": 4,
            "main/train-00001-of-00002.parquet": 3,
            "main/test-00000-of-00001.parquet": 2,
            "more/in/deep.parquet": 3,
            "socratic/a.parquet": 5,
        },
        CARD,
        [("main", "train"), ("main", "test"), ("socratic", "train")],
    ),
    "shards": (
        {"data/train-00000-of-00001.parquet": 4, "data/extra-00000-of-00001.parquet": 3, "other.jsonl": 2},
        None,
        [(None, "train"), (None, "extra")],
    ),
    "folders": ({"train/b.jsonl": 2, "train/a.jsonl": 3, "my dev/x.jsonl": 4}, None, [(None, "train")]),
    "folders of words": ({"train/b.jsonl": 2, "my dev/x.jsonl": 4}, None, [(None, "validation")]),
    "names": (
        {"set_train.jsonl": 4, "test-1.jsonl": 2, "test-2.jsonl": 3, "constraint.jsonl": 9},
        None,
        [(None, "train"), (None, "test")],
    ),
    "neither": ({"b.jsonl": 4, "a.jsonl": 2, ".hidden.jsonl": 3}, None, [(None, "train")]),
    "a directory of a configuration": (
        {"en/train.jsonl": 3, "de/train.jsonl": 4, "de/test.jsonl": 2},
        "---\nconfigs:\n- config_name: en\n  data_dir: en\n- config_name: de\n  data_dir: de\n---\n",
        [("en", "train"), ("de", "test")],
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_splits_of_a_folder_have_the_rows_that_datasets_finds_there_in_its_order(tmp_path, layout):
    files, card, asked = LAYOUTS[layout]
    folder = tmp_path / "set"
    for name, num in files.items():
        write = table if name.endswith(".parquet") else lines
        write(folder / name, [{"problem": f"{name} {n}", "answer": "1"} for n in range(num)])
    if card:
        (folder / "README.md").write_text(card)
    for config, split in asked:
        theirs = datasets.load_dataset(
            str(folder), config, split=split, cache_dir=str(tmp_path / f"{config}-{split}")
        )
        ours = resolved(folder, split=split, **({"config": config} if config else {}))
        assert prompts(ours) == theirs["problem"][:]


@pytest.fixture
def on_hub(tmp_path):
    """`org/sums` in the hub's cache, `main` standing for one commit."""
    folder = tmp_path / "hub" / "datasets--org--sums"
    lines(folder / "snapshots" / COMMIT / "train.jsonl", ROWS)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    return folder


def test_a_hub_id_is_read_from_the_cache_at_the_commit_it_stood_for(tmp_path, on_hub):
    expected = resolved(lines(tmp_path / "rows.jsonl", ROWS))
    found = resolved("org/sums")
    assert (found.digest, found.name) == (expected.digest, "sums")
    assert (found.path, found.hub_id, found.revision, found.commit) == (
        "org/sums",
        "org/sums",
        "main",
        COMMIT,
    )
    later = "d" * 40
    lines(on_hub / "snapshots" / later / "train.jsonl", ROWS[:5])
    (on_hub / "refs" / "main").write_text(later)
    assert prompts(found) == [row["problem"] for row in ROWS]
    assert resolved("org/sums").num_rows == 5
    assert resolved("org/sums", revision=COMMIT).digest == expected.digest


def test_a_hub_id_in_a_file_stays_one_and_a_folder_beside_the_file_comes_first(tmp_path):
    assert anchored("data.path", "org/sums", tmp_path) == "org/sums"
    assert anchored("data.path", "org/sums.jsonl", tmp_path) == str(tmp_path / "org/sums.jsonl")
    lines(tmp_path / "org" / "sums" / "a.jsonl", ROWS)
    assert anchored("data.path", "org/sums", tmp_path) == str(tmp_path / "org/sums")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"path": "org/other"}, r"org/other'?: is neither a file or folder here nor, at main, in the hub's"),
        ({"path": "org/sums", "revision": "v2"}, "--repo-type dataset --revision v2 org/sums"),
        ({"path": "org/sums", "revision": "../x"}, "is no name on the hub"),
        ({"path": "org/sums", "split": "test"}, "data.split='test': 'org/sums' has train"),
        ({"path": "org/sums", "config": "main"}, "data.config='main': 'org/sums' names no configurations"),
        ({"path": "org/sums", "commit": COMMIT}, "is filled in when the sweep is composed"),
        ({"path": "{}/rows.jsonl", "revision": "main"}, "is no data set of the hub"),
        ({"path": "{}/rows.jsonl", "split": "train"}, "is a file; leave data.split out"),
        ({"path": "{}/gone.jsonl"}, "gone.jsonl': no such file"),
        ({"path": "{}/pictures"}, "the folder holds no rows"),
        ({"path": "{}/card"}, "has the configurations main, socratic; name one with data.config"),
        ({"path": "{}/card", "config": "man"}, 'did you mean "main"'),
        ({"path": "{}/card", "config": "main"}, "README.md names 'main/train-.' for 'train', and no such"),
        ({"path": "{}/saved"}, "has the splits dev, test; name one with data.split"),
        ({"path": "{}/saved", "split": "dev"}, "lacks data-00000-of-00001.arrow; copy the folder again"),
        ({"path": "{}/saved", "split": "test"}, "is not an Arrow file"),
    ],
)
def test_what_is_not_there_is_refused_in_one_short_message(tmp_path, on_hub, fields, message):
    lines(tmp_path / "rows.jsonl", ROWS)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(b"png")
    (tmp_path / "card").mkdir()
    (tmp_path / "card" / "README.md").write_text(CARD)
    one = datasets.Dataset.from_list(ROWS)
    datasets.DatasetDict({"dev": one, "test": one}).save_to_disk(str(tmp_path / "saved"))
    (tmp_path / "saved" / "dev" / "data-00000-of-00001.arrow").unlink()
    (tmp_path / "saved" / "test" / "data-00000-of-00001.arrow").write_bytes(b"no Arrow")
    with pytest.raises(SpecError, match=message) as refused:
        resolved(fields["path"].format(tmp_path), **{k: v for k, v in fields.items() if k != "path"})
    assert len(str(refused.value)) < 700


def test_a_row_of_a_folder_is_named_with_its_file(tmp_path):
    lines(tmp_path / "set" / "a.jsonl", ROWS)
    lines(tmp_path / "set" / "b.jsonl", [*ROWS, {"question": "1+1="}])
    with pytest.raises(SpecError, match=r"b\.jsonl line 21 has question"):
        resolved(tmp_path / "set", prompt_field="problem")


def test_a_changed_shard_makes_another_set(tmp_path):
    folder = tmp_path / "set"
    lines(folder / "a.jsonl", ROWS)
    lines(folder / "b.jsonl", ROWS)
    first = resolved(folder)
    shutil.copy(lines(tmp_path / "other.jsonl", ROWS[1:]), folder / "b.jsonl")
    second = resolved(folder)
    assert (first.num_rows, second.num_rows) == (40, 39)
    assert first.digest != second.digest
