import dataclasses
import functools
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweeps.compose import compose_sweep
from sweeps.grid.grid import axis, product
from sweeps.manifest.build import build_manifest
from sweeps.manifest.manifest_file import read_manifest, write_manifest
from sweeps.spec import SpecError

PLAIN = ["example=text", "eval=none"]


@functools.cache
def composed():
    """One composition that knows every option of the axes below."""
    return compose_sweep(PLAIN, grid=product(axis("schedule", ["constant", "linear", "wsd"])))


@functools.cache
def composed_from(*words):
    return compose_sweep([*PLAIN, *words])


def build(*words):
    return build_manifest(composed_from(*words))


def build_grid(*axes):
    return build_manifest(dataclasses.replace(composed(), grid=product(*axes)))


KEYS = {
    "optim.lr": st.floats(1e-6, 1e-2),
    "schedule": st.sampled_from(["constant", "linear", "wsd"]),
    "objective.temperature": st.sampled_from([0.25, 0.5, 1.0]),
    "engine.zero_stage": st.sampled_from([0, 1, 2]),
    "steps": st.integers(1, 20),
    "seed": st.integers(0, 50),
}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_every_run_id_is_that_of_its_specification_and_no_two_are_equal(data):
    keys = data.draw(st.lists(st.sampled_from(sorted(KEYS)), min_size=1, max_size=4, unique=True))
    axes = [axis(k, data.draw(st.lists(KEYS[k], min_size=1, max_size=4))) for k in keys]
    manifest = build_manifest(dataclasses.replace(composed(), grid=product(*axes)))
    total = 1
    for a in axes:
        total *= len(a.values)
    assert len(manifest) + manifest.num_duplicates == total
    assert len(set(manifest.run_ids)) == len(manifest)
    for i in range(len(manifest)):
        spec = manifest.spec(i)
        assert spec.run_id == manifest.run_ids[i]
        for key, value in manifest.axis_values(i).items():
            group, _, name = key.partition(".")
            held = (
                getattr(getattr(spec, group), name or "name")
                if group not in ("steps", "seed")
                else getattr(spec, group)
            )
            assert held == value
    assert (
        manifest.specs([*range(len(manifest))][::-1])
        == [manifest.spec(i) for i in range(len(manifest))][::-1]
    )


def test_the_same_number_spelled_twice_is_one_run():
    manifest = build("optim.lr=1e-4,0.0001", "seed=1,2,1")
    assert (len(manifest), manifest.num_duplicates) == (2, 4)


def test_an_axis_outside_the_science_makes_duplicates():
    manifest = build("engine.zero_stage=0,1,2", "seed=1,2")
    assert (len(manifest), manifest.num_duplicates) == (2, 4)
    assert [a.values for a in manifest.axes if a.key == "engine.zero_stage"] == [(0,)]


def test_runs_that_can_share_work_are_neighbours():
    manifest = build("optim.lr=1e-4,2e-4", "model=tiny-64,tiny-96", "seed=0,1")
    rows = [tuple(manifest.axis_values(i).values()) for i in range(len(manifest))]
    assert rows == [
        (lr, model, seed) for model in ("tiny-64", "tiny-96") for seed in (0, 1) for lr in (1e-4, 2e-4)
    ]


def test_columns_keep_the_order_of_the_sweep_file_and_values_their_yaml_order(sweep_file):
    path = sweep_file("axes: {seed: [3, 1], model: [tiny-96, tiny-64], optim.lr: [2e-4, 1e-4]}")
    manifest = build(f"sweep={path}")
    assert [(a.key, a.values, a.kind) for a in manifest.axes] == [
        ("seed", (3, 1), "int"),
        ("model", ("tiny-96", "tiny-64"), "str"),
        ("optim.lr", (2e-4, 1e-4), "float"),
    ]


def test_cells_number_every_axis_but_the_seed_in_column_order():
    manifest = build("optim.lr=2e-4,1e-4", "seed=0,1,2")
    assert manifest.num_cells == 2
    assert {(manifest.axis_values(i)["optim.lr"], manifest.cell(i)) for i in range(6)} == {
        (2e-4, 0),
        (1e-4, 1),
    }


def test_names_are_short_and_different_for_different_runs():
    axes = {"seed": [0, 1], "model": ["tiny-64"], "optim.lr": [1e-4, 2e-4], "objective.temperature": [0.5]}
    manifest = build_manifest(compose_sweep(PLAIN, grid=product(*(axis(k, v) for k, v in axes.items()))))
    assert manifest.name(0) == "tiny-64·lr1e-4·τ0.5·s0"
    assert len(set(manifest.names())) == len(manifest)
    assert list(manifest.names()) == [manifest.name(i) for i in range(len(manifest))]


def test_a_manifest_survives_its_file(tmp_path):
    grid = product(
        axis("schedule", ["constant", "wsd"]),
        axis("schedule.decay_fraction", [0.1, 0.2], when="schedule=wsd"),
        axis("example.prompts", [["a"], ["b", "c"]]),
        axis("optim.lr", [1e-4, 3.0000000000000004e-05]),
        axis("seed", range(3)),
    )
    asked = dataclasses.replace(composed(), grid=grid, options={**composed().options, "sharing": False})
    manifest = build_manifest(asked)
    write_manifest(manifest, tmp_path / "manifest.parquet")
    again = read_manifest(tmp_path / "manifest.parquet")
    assert again.digest == manifest.digest
    assert again.run_ids == manifest.run_ids
    assert again.axes == manifest.axes
    assert again.options == manifest.options
    assert again.options["sharing"] is False
    for i in range(len(manifest)):
        assert again.spec(i) == manifest.spec(i)
        assert again.axis_values(i) == manifest.axis_values(i)
        assert (again.name(i), again.cell(i)) == (manifest.name(i), manifest.cell(i))
    assert not list(tmp_path.glob(".*"))


def test_the_file_has_one_typed_column_an_axis(tmp_path):
    manifest = build("schedule=constant,wsd", "optim.lr=1e-4,2e-4", "seed=0", "example.prompts=[a],[b]")
    write_manifest(manifest, tmp_path / "m.parquet")
    table = pq.read_table(tmp_path / "m.parquet")
    kinds = {f.name: f.type for f in table.schema}
    assert kinds["optim.lr"] == pa.float64()
    assert kinds["seed"] == pa.int64()
    assert set(table["schedule"].to_pylist()) == {"constant", "wsd"}
    assert set(table["example.prompts"].to_pylist()) == {'["a"]', '["b"]'}
    assert table["index"].to_pylist() == list(range(8))
    assert json.loads(table["spec.optim"][0].as_py())["lr"] == 1e-4


def test_building_twice_gives_the_same_manifest_and_another_order_of_values_the_same_runs():
    words = ["optim.lr=1e-4,2e-4", "seed=0,1"]
    assert build(*words).digest == build_manifest(compose_sweep([*PLAIN, *words])).digest
    assert set(build("optim.lr=2e-4,1e-4", "seed=1,0").run_ids) == set(build(*words).run_ids)


def test_a_file_that_is_no_manifest_is_refused(tmp_path):
    with pytest.raises(SpecError, match="no such manifest"):
        read_manifest(tmp_path / "missing.parquet")
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(SpecError, match="is not a manifest"):
        read_manifest(tmp_path / "text.parquet")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(SpecError, match="is not a manifest"):
        read_manifest(tmp_path / "other.parquet")


def test_a_file_of_a_newer_format_is_refused(tmp_path):
    write_manifest(build_grid(axis("seed", [0])), tmp_path / "m.parquet")
    table = pq.read_table(tmp_path / "m.parquet")
    header = json.loads(table.schema.metadata[b"emsweep"]) | {"version": 99}
    pq.write_table(table.replace_schema_metadata({b"emsweep": json.dumps(header)}), tmp_path / "m.parquet")
    with pytest.raises(SpecError, match="newer than 2; upgrade"):
        read_manifest(tmp_path / "m.parquet")


@pytest.mark.parametrize(
    ("key", "values", "message"),
    [
        ("optim.lr", [1e-4, -1], r"optim.lr=-1.0: must be"),
        ("objective.temperature", [0], "objective.temperature=0.0: must be"),
        ("sampling.temperature", [-1], "sampling.temperature=-1.0: must be"),
        ("steps", [2**40], r"must be below 2\^31"),
        ("steps", [0], "steps=0: must be at least 1"),
        ("engine.zero_stage", [5], "must be 0, 1, 2 or 3"),
        ("seed", [-1], "seed=-1"),
    ],
)
def test_a_value_out_of_range_is_refused(key, values, message):
    with pytest.raises(SpecError, match=message):
        build_grid(axis(key, values))


def test_a_value_out_of_range_is_refused_outside_the_axes_too():
    with pytest.raises(SpecError, match=r"optim.lr=0.0: must be a number above 0"):
        build("optim.lr=0")
