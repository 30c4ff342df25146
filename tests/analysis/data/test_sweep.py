from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from analysis import open_sweep
from analysis.dashboard.run_grid import condition
from analysis.data.views import literal
from analysis.tables.cell_table import cell_table
from orchestrator.driver.session import Session
from orchestrator.store.layout import Layout
from sweeps.compose import compose_sweep
from sweeps.grid.filters import write_term
from sweeps.manifest.build import build_manifest
from sweeps.spec import SpecError
from sweeps.spec.errors import UserError
from tests.analysis.synthetic import quickstart_world, write_sweep


def test_runs_has_one_row_per_manifest_run_with_typed_axes(quickstart):
    runs = open_sweep(quickstart).runs()
    assert len(runs) == 96
    assert list(runs["index"]) == list(range(96))
    assert list(runs["model"].cat.categories) == ["tiny-64", "tiny-32"]  # YAML order, not the alphabet
    assert runs["model"].cat.ordered
    assert runs["optim.lr"].dtype == np.float64
    assert runs["seed"].dtype == np.int64
    assert set(runs["outcome"]) == {"done"}


def test_runs_equal_the_stored_parquet_value_for_value(quickstart):
    stored = pq.read_table(quickstart / "runs.parquet").to_pandas()
    runs = open_sweep(quickstart).runs()
    for column in ("run_id", "model", "optim.lr", "accuracy_sampled", "gain_sampled", "wall_s"):
        assert list(runs[column].astype(stored[column].dtype)) == list(stored[column])


def test_steps_and_items_carry_the_axes_of_their_run(quickstart):
    sweep = open_sweep(quickstart)
    steps = sweep.steps()
    assert len(steps) == 96 * 11
    assert list(steps["step"][:11]) == list(range(11))
    assert steps["accuracy_sampled"].notna().sum() == 96 * 5
    one = sweep.runs().set_index("index").loc[17]
    assert set(steps.loc[steps["index"] == 17, "optim.lr"]) == {one["optim.lr"]}
    items = sweep.items()
    last = items[(items["index"] == 17) & (items["step"] == 10) & (items["mode"] == "sampled")]
    assert np.mean(last["correct"].iloc[0]) == pytest.approx(one["accuracy_sampled"])


def test_columns_asked_for_are_the_only_ones_read(quickstart):
    assert list(open_sweep(quickstart).steps(["model", "step", "loss"]).columns) == ["model", "step", "loss"]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["model=tiny-64"], 48),
        (["!model=tiny-64"], 48),
        (["lr=0.0001"], 24),
        (["optim.lr=1e-4,2e-4", "seed=0"], 12),
        (["optim.lr>=2e-4"], 48),
        (["example=car*"], 32),
        (["model=tiny-64 seed!=3"], 36),
    ],
)
def test_filters_follow_the_command_lines_grammar(quickstart, filters, expected):
    assert len(open_sweep(quickstart).where(*filters).runs()) == expected


def test_a_value_of_any_spelling_selects_its_own_runs_in_python_and_in_the_dashboard(tmp_path):
    values = ("star*", "starfish", "x y", "it's, so", "1e-4", "null")
    axes = {"model": ("tiny-64",), "example": values, "optim.lr": (1e-4,), "seed": (0, 1)}
    sweep = open_sweep(write_sweep(tmp_path / "spelt", quickstart_world(axes=axes, num_items=4)))
    for value in values:
        text = write_term("example", value)
        assert list(sweep.where(text).runs()["example"]) == [value] * 2
        assert (
            list(sweep.query(f"SELECT example FROM runs WHERE {condition(sweep, text)}")["example"])
            == [value] * 2
        )
        names = sweep.query(f"SELECT name FROM runs WHERE example = {literal(value)}")["name"]
        for name in names:
            matches = sweep.query(f"SELECT name FROM runs WHERE {condition(sweep, write_term('name', name))}")
            assert list(matches["name"]) == [name]


def test_filters_narrow_steps_and_items_too(quickstart):
    sweep = open_sweep(quickstart).where("seed=0", "model=tiny-32")
    assert len(sweep.steps()) == 12 * 11
    assert set(sweep.items()["seed"]) == {0}


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        (["optim.lrr=1"], ["optim.lrr", "did you mean", "optim.lr"]),
        (["lr=3"], ["no run has such a value", "1e-4"]),
        (["model"], ["model", "key=value"]),
        (["model>3"], ["needs numbers"]),
    ],
)
def test_a_wrong_filter_is_refused_with_value_rule_and_fix(quickstart, filters, words):
    with pytest.raises((UserError, SpecError)) as error:
        open_sweep(quickstart).where(*filters)
    assert all(word in str(error.value) for word in words)


def test_a_directory_that_is_no_sweep_is_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        open_sweep(tmp_path / "absent")
    with pytest.raises(UserError, match="not a sweep"):
        open_sweep(tmp_path)


def test_a_directory_of_a_newer_format_is_refused(tmp_path):
    directory = write_sweep(tmp_path / "new", quickstart_world(num_items=4))
    (directory / "sweep.yaml").write_text("format: 99\n")
    with pytest.raises(UserError, match=r"format 99, .* upgrade"):
        open_sweep(directory)


def test_a_half_written_parquet_file_is_left_out_and_named(quickstart, tmp_path):
    directory = shutil.copytree(quickstart, tmp_path / "torn")
    whole = (directory / "steps.parquet").read_bytes()
    (directory / "steps.parquet").write_bytes(whole[: len(whole) // 2])
    sweep = open_sweep(directory)
    assert [path.name for path in sweep.unreadable] == ["steps.parquet"]
    assert len(sweep.runs()) == 96
    assert len(sweep.steps()) == 0
    assert "steps.parquet" in sweep.cell_table(["model"]).notes[-1]


def test_a_file_with_damaged_pages_is_named_with_the_fix(quickstart, tmp_path):
    directory = shutil.copytree(quickstart, tmp_path / "scratched")
    content = bytearray((directory / "runs.parquet").read_bytes())
    content[50 : len(content) // 2] = b"x" * (len(content) // 2 - 50)
    (directory / "runs.parquet").write_bytes(content)
    with pytest.raises(UserError, match=r"runs.parquet: damaged .* mend it with: emsweep repair"):
        open_sweep(directory).cells(["model"])


def test_a_running_sweep_shows_what_its_parts_hold_and_the_rest_as_pending(quickstart, tmp_path):
    directory = shutil.copytree(quickstart, tmp_path / "running")
    (directory / "parts").mkdir()
    for table in ("runs", "steps", "items"):
        rows = pq.read_table(directory / f"{table}.parquet")
        if table == "runs":  # a part holds results only
            rows = rows.drop_columns(
                ["run_id", "name", "cell", "outcome", "model", "example", "optim.lr", "seed"]
            )
        (directory / f"{table}.parquet").unlink()
        first = rows.filter(rows["index"].to_numpy() < 30)
        pq.write_table(first, directory / "parts" / f"{table}-00000.parquet")
        later = rows.filter((rows["index"].to_numpy() >= 30) & (rows["index"].to_numpy() < 40))
        pq.write_table(later, tmp_path / f"{table}-00001.parquet")
    sweep = open_sweep(directory, live=True)
    assert sweep.counts() == {"done": 30, "pending": 66}
    for table in ("steps", "items", "runs"):  # a part counts once its runs are there
        assert len(sweep.steps()) == 30 * 11
        shutil.move(tmp_path / f"{table}-00001.parquet", directory / "parts")
    assert sweep.counts() == {"done": 40, "pending": 56}
    assert len(sweep.steps()) == 40 * 11
    assert sweep.runs()["accuracy_sampled"].notna().sum() == 40


def test_several_directories_are_one_sweep_and_a_shared_run_counts_once(tmp_path):
    small = {"model": ("tiny-64",), "example": ("carry",), "optim.lr": (1e-4, 2e-4), "seed": (0, 1)}
    wide = {"model": ("tiny-64",), "example": ("carry",), "optim.lr": (2e-4, 4e-4), "seed": (0, 1)}
    one = write_sweep(tmp_path / "one", quickstart_world(axes=small, num_items=8))
    two = write_sweep(tmp_path / "two", quickstart_world(axes=wide, num_items=8))
    both = open_sweep(one, two)
    runs = both.runs()
    assert len(runs) == 6
    assert list(runs["sweep"].unique()) == ["one", "two"]
    assert both.axis("lr").values == (1e-4, 2e-4, 4e-4)
    assert len(both.steps()) == 6 * 11
    assert len(both.where("sweep=two").runs()) == 2  # the runs shared with the first count there


def test_runs_with_results_in_two_directories_are_told_and_those_that_disagree_counted(tmp_path):
    axes = {"model": ("tiny-64",), "example": ("carry",), "optim.lr": (1e-4, 2e-4), "seed": (0, 1)}
    world = quickstart_world(axes=axes, num_items=8)
    one, same, other = (write_sweep(tmp_path / name, world) for name in ("one", "same", "other"))
    rows = pq.read_table(other / "runs.parquet")
    moved = [value + (0.25 if i < 3 else 0.0) for i, value in enumerate(rows["accuracy_sampled"].to_pylist())]
    place = rows.column_names.index("accuracy_sampled")
    pq.write_table(rows.set_column(place, "accuracy_sampled", [moved]), other / "runs.parquet")
    assert open_sweep(one).warnings == ()
    (agreed,) = open_sweep(one, same).warnings
    assert agreed == "4 runs with a result in several directories: the first directory's counts."
    (apart,) = open_sweep(one, other).warnings
    assert "for 3 of them the directories disagree by more than rounding" in apart
    assert any(apart in note for note in cell_table(open_sweep(one, other)).notes)
    narrow = open_sweep(one, other).where("lr=2e-4")
    assert narrow.warnings[0].startswith("2 runs with a result in several directories")


def test_an_axis_that_one_directory_does_not_sweep_is_read_from_its_configuration(tmp_path):
    swept = {"model": ("tiny-64",), "optim.lr": (1e-4, 2e-4), "seed": (0,)}
    fixed = {"model": ("tiny-96",), "seed": (0,)}
    one = write_sweep(tmp_path / "one", quickstart_world(axes=swept, num_items=8))
    two = write_sweep(tmp_path / "two", quickstart_world(axes=fixed, num_items=8))
    runs = open_sweep(one, two).runs()
    assert dict(runs.groupby("sweep", observed=True)["optim.lr"].max()) == {"one": 2e-4, "two": 2e-5}


def test_a_key_that_a_rule_sets_for_some_runs_of_a_directory_has_each_runs_own_value(tmp_path):
    ruled = tmp_path / "ruled.yaml"
    rule = "set: [{when: seed=1, eval.limit: 7}]"
    ruled.write_text(f"# @package _global_\neval: {{limit: 5}}\nsweep:\n  axes: {{seed: [0, 1]}}\n  {rule}\n")
    for name, words in (
        ("ruled", [f"sweep={ruled}"]),
        ("varied", ["sweep=noop", "seed=0", "eval.limit=5,7"]),
    ):
        with Session(Layout(tmp_path / name)) as session:
            session.freeze(build_manifest(compose_sweep(words)), pool="inline")
    runs = open_sweep(tmp_path / "ruled", tmp_path / "varied").runs()
    found = runs[runs["sweep"] == "ruled"].set_index("seed")["eval.limit"]
    assert dict(found) == {0: 5, 1: 7}
    assert sorted(runs[runs["sweep"] == "varied"]["eval.limit"]) == [5, 7]


def test_a_list_has_one_spelling_whether_a_directory_varies_it_or_not(tmp_path):
    for name, steps in (("fixed", "[0,1]"), ("varied", "[0,1],[1]")):
        manifest = build_manifest(
            compose_sweep(["sweep=noop", "seed=0,1", f"eval.steps={steps}", f"trainer.params.{name}=1"])
        )
        with Session(Layout(tmp_path / name)) as session:
            session.freeze(manifest, pool="inline")
    both = open_sweep(tmp_path / "fixed", tmp_path / "varied")
    assert sorted(both.runs()["eval.steps"].unique()) == ["[0,1]", "[1]"]
    assert len(both.where("eval.steps=[0,1]").runs()) == 4


def test_query_answers_sql_with_typed_axes(quickstart):
    answer = open_sweep(quickstart).query(
        'SELECT model, avg("gain_sampled") AS gain FROM runs GROUP BY model'
    )
    assert isinstance(answer["model"].dtype, pd.CategoricalDtype)
    assert len(answer) == 2


def test_a_half_written_table_of_runs_is_named_where_no_metric_is_left(tmp_path):
    directory = write_sweep(tmp_path / "half", quickstart_world(num_items=8))
    whole = (directory / "runs.parquet").read_bytes()
    (directory / "runs.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"no run has a metric yet \(Left out as damaged .*runs\.parquet"):
        open_sweep(directory).metric()


@pytest.mark.parametrize("over", ["seeds", "both"])
def test_a_damaged_page_is_named_with_its_file(tmp_path, over):
    directory = write_sweep(tmp_path / "page", quickstart_world(num_items=100))
    path = directory / "runs.parquet"
    content = bytearray(path.read_bytes())
    start = len(content) // 3
    content[start : start + 2000] = bytes(byte ^ 0x5A for byte in content[start : start + 2000])
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"runs\.parquet: damaged"):
        open_sweep(directory).cell_table(over=over)
