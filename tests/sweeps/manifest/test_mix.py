"""Mixes of training sets: what they are, how they are written, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.planning.training_sets import planned_sets
from sweeps.compose import compose_sweep
from sweeps.cost.work_count import count_work
from sweeps.manifest.build import build_manifest
from sweeps.manifest.manifest import Manifest
from sweeps.manifest.training_set import training_set
from sweeps.spec import SpecError
from sweeps.spec.mix import parts_of


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def written(folder: Path, name: str, num: int, **more) -> str:
    rows = [{"problem": f"{n}+{num}=", "answer": f"{n + num:03}", "hard": n, **more} for n in range(num)]
    file = folder / f"{name}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def manifest_of(*words: str) -> Manifest:
    return build_manifest(compose_sweep([*words, "eval=none", "data.prompts_per_step=4"]))


def words_of(tmp_path: Path, **sets: str) -> list[str]:
    """Words of a mix of sets of 20, 21, 22 … rows, with more words for each."""
    words = ["data=mix"]
    for number, (name, more) in enumerate(sets.items()):
        words.append(f"data.mix.{name}.path={written(tmp_path, name, 20 + number)}")
        words += [f"data.mix.{name}.{word}" for word in more.split()]
    return words


def ids_of(*words: str) -> tuple[str, ...]:
    return tuple(manifest_of(*words).run_ids)


def test_a_mix_is_its_rows_orders_and_proportions_whatever_its_sets_are_called(tmp_path):
    one, two = written(tmp_path, "one", 20), written(tmp_path, "two", 30)

    def of(*sets: tuple[str, str, float]) -> str:
        words = [f"data.mix.{n}.{k}={v}" for n, path, w in sets for k, v in (("path", path), ("weight", w))]
        return ids_of("data=mix", *words)[0]

    first = of(("a", one, 1), ("b", two, 3))
    assert of(("b", one, 0.1), ("a", two, 0.3)) == first
    assert of(("x", two, 6), ("y", one, 2)) == first
    assert of(("a", one, 3), ("b", two, 1)) != first
    assert of(("a", one, 1), ("b", two, 3), ("c", written(tmp_path, "three", 5), 0)) == first
    Path(two).write_text(Path(two).read_text().replace("030", "031"))
    assert of(("a", one, 1), ("b", two, 3)) != first


def test_a_mix_of_one_set_with_a_weight_is_that_set(tmp_path):
    words = words_of(tmp_path, a="weight=2 order=file limit=10", b="weight=0")
    path = tmp_path / "a.jsonl"
    assert ids_of(*words) == ids_of("data=file", f"data.path={path}", "data.order=file", "data.limit=10")


def test_a_weight_is_an_axis(tmp_path):
    manifest = manifest_of(*words_of(tmp_path, a="weight=1", b="weight=0,1,2.5"))
    found = [manifest.axis_values(row)["data.mix.b.weight"] for row in range(len(manifest))]
    assert (found, len(set(manifest.run_ids))) == ([0.0, 1.0, 2.5], 3)
    parts = parts_of(manifest.spec(2).data)
    assert sorted((part.name, part.weight) for part in parts) == [("a", 2), ("b", 5)]


def test_each_set_is_read_by_its_own_keys_and_else_by_those_of_all(tmp_path):
    words = words_of(tmp_path, a="difficulty_field=hard", b="order=file subset=0.5")
    data = manifest_of(*words, "data.order=hard_to_easy", "data.difficulty_field=-hard").spec(0).data
    by_name = {part.name: part.data for part in parts_of(data)}
    assert [by_name[n].order for n in "ab"] == ["hard_to_easy", "file"]
    assert [by_name[n].difficulty_field for n in "ab"] == ["hard", "-hard"]
    assert by_name["b"].num_rows < 21
    table = training_set(data).table
    assert table.num_rows == data.num_rows == sum(part.num_rows for part in by_name.values())
    assert table["difficulty"].null_count == by_name["b"].num_rows


def test_a_mix_has_answers_where_every_set_has(tmp_path):
    words = words_of(tmp_path, a="weight=1", b="weight=1 answer_field=null")
    assert not manifest_of(*words).spec(0).data.has_answers
    message = r"needs a label in every row, and data\.mix\.b has none"
    with pytest.raises(SpecError, match=message):
        manifest_of(*words, "objective=grpo", "sampling.num_rollouts=64")
    zero = [word.replace("b.weight=1", "b.weight=0") for word in words]
    assert manifest_of(*zero, "objective=grpo").spec(0).data.has_answers


def test_paths_in_a_file_are_relative_to_it_as_those_of_one_set_are(tmp_path, monkeypatch):
    folder = tmp_path / "sweeps"
    folder.mkdir()
    written(folder, "a", 20), written(folder, "b", 21)
    (folder / "mixed.yaml").write_text(
        "# @package _global_\ndefaults: [override /data: mix]\n"
        "data: {mix: {a: {path: a.jsonl}, b: {path: ./b.jsonl, weight: 2}}}\n"
        "sweep: {axes: {data.mix.b.path: [b.jsonl, a.jsonl], data.mix.a.limit: [5]}}\n"
    )
    monkeypatch.chdir(tmp_path)
    manifest = manifest_of(f"sweep={folder / 'mixed.yaml'}")
    assert sorted(manifest.spec(row).data.num_rows for row in range(2)) == [5 + 20, 5 + 21]


def test_a_plan_names_each_set_with_its_share_and_its_epochs(tmp_path):
    manifest = manifest_of(*words_of(tmp_path, a="weight=1", b="weight=3"), "steps=7")
    told = [str(each) for each in planned_sets(manifest)]
    assert sorted(told) == [
        "a+b/a: 20 rows, shuffle, 0.25 of 4 a step · 0.35 epochs · 1 run",
        "a+b/b: 21 rows, shuffle, 0.75 of 4 a step · 1 epoch · 1 run",
    ]


def test_horizons_of_a_mix_share_their_steps_and_other_weights_share_none(tmp_path):
    words = words_of(tmp_path, a="weight=1", b="weight=1,2")
    work = count_work(manifest_of(*words, "steps=5,20"))
    assert (work.naive.steps, work.shared.steps) == (50, 40)


@pytest.mark.parametrize(
    ("sets", "more", "message"),
    [
        ({}, (), r"data\.mix: names no set; give each a file"),
        ({"a": "weight=-1"}, (), r"data\.mix\.a\.weight=-1: must be a number of at least 0"),
        ({"a": "weight=nan"}, (), r"data\.mix\.a\.weight=nan: has no stable form"),
        ({"a": "weight=much"}, (), r"data\.mix\.a\.weight='much': must be a number"),
        ({"a": "weight=true"}, (), r"data\.mix\.a\.weight=True: must be a number"),
        ({"a": "weight=0", "b": "weight=0"}, (), "every weight is 0"),
        ({"a": "wieght=1"}, (), r'data\.mix\.a\.wieght: unknown key \(did you mean "weight"\?\)'),
        ({"a": "prompts_per_step=1"}, (), r"data\.mix\.a\.prompts_per_step: unknown key"),
        ({"a": "weight=1"}, ("data.mix.b.weight=1",), r"data\.mix\.b=.*: names no file"),
        ({"a": "weight=1"}, ("data.mix.b.path=gone.jsonl",), r"data\.mix\.b\.path='.*gone\.jsonl': no such"),
        ({"a": "prompt_field=text"}, (), r"data\.mix\.a\.prompt_field='text': .*a\.jsonl line 1 has problem"),
        ({"a": "limit=-1", "b": ""}, (), r"data\.mix\.a\.limit=-1: must be at least 0"),
        ({"a": "limit=x", "b": ""}, (), r"data\.mix\.a\.limit='x': must be a whole number"),
        (
            {"a": "limit=2", "b": ""},
            ("data.mix.a.weight=9",),
            r"data\.mix\.a: has 2 rows, fewer than the 3\.6",
        ),
        (
            {"a": "", "b": ""},
            ("data.path=x.jsonl",),
            r"data\.path='.*x\.jsonl': beside data\.mix, of which set",
        ),
        ({"a": "", "b": ""}, ("data.limit=5",), r"data\.limit=5: beside data\.mix, of which set"),
        ({"a": "", "b": ""}, ("epochs=1",), r"epochs=1: the sets of data\.mix end at different times"),
        ({"a": "", "b": ""}, ("example=carry-1",), "train on the prompts of a training set"),
        ({"a-b": ""}, (), r"data\.mix\.a-b: name a set by letters, digits and _"),
        ({"a": "", "b": ""}, ("data.digest=" + "0" * 64,), r"data\.digest='0.*data\.mix holds other rows"),
    ],
)
def test_what_is_wrong_with_a_mix_is_said_in_one_short_message(tmp_path, sets, more, message):
    with pytest.raises(SpecError, match=message) as refused:
        manifest_of(*words_of(tmp_path, **sets), *more)
    assert len(str(refused.value)) < 500


def test_given_completions_of_several_sets_are_read_each_by_its_own_field(tmp_path):
    words = words_of(tmp_path, a="completion_field=note", b="weight=2")
    written(tmp_path, "a", 20, note="so"), written(tmp_path, "b", 21, completion="thus")
    data = manifest_of(*words, "objective=sft").spec(0).data
    opened = training_set(data)
    told = {row.given.completions for row in opened.rows(range(data.num_rows))}
    assert told == {("so",), ("thus",)}
    assert [part.data.targets for part in parts_of(data)] == ["completions"] * 2
    assert ids_of(*words, "objective=sft") != ids_of(*words)


def test_the_same_rows_twice_are_refused(tmp_path):
    words = words_of(tmp_path, a="weight=1")
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes((tmp_path / "a.jsonl").read_bytes())
    with pytest.raises(SpecError, match=r"data\.mix\.b: has the rows of data\.mix\.a; leave one out"):
        manifest_of(*words, f"data.mix.b.path={copy}")
