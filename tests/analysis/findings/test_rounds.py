"""Accuracy round by round: planted rises, falls and plateaus are found, and nothing is made up."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis import open_sweep
from analysis.findings import find
from tests.analysis.synthetic import World, write_sweep

ROUNDS, EACH = 3, 2

PLANTED = {"uncurated": (0.80, 0.86, 0.86, 0.86), "escaping_collapse": (0.80, 0.84, 0.88, 0.92)}
"""Accuracy before the first round and after each."""

NOISE = 0.004
"""Standard deviation over seeds."""


def write_rounds(folder, planted=PLANTED, seeds=8):
    world = World(
        axes={"curate": tuple(planted), "seed": tuple(range(seeds))},
        num_steps=ROUNDS * EACH,
        eval_steps=(0, 2, 4, 6),
        item_steps=(0, 6),
        num_items=20,
    )
    write_sweep(folder, world)
    steps = pq.read_table(folder / "steps.parquet").to_pandas()
    procedure = pq.read_table(folder / "runs.parquet").to_pandas().set_index("index")["curate"]
    rng = np.random.default_rng(0)
    steps["round"] = np.where(steps["step"] > 0, -(-steps["step"] // EACH), np.nan)
    steps["accuracy_sampled"] = [
        planted[procedure[index]][step // EACH] + rng.normal(0, NOISE) if step % EACH == 0 else None
        for index, step in zip(steps["index"], steps["step"], strict=True)
    ]
    pq.write_table(pa.Table.from_pandas(steps, preserve_index=False), folder / "steps.parquet")
    return open_sweep(folder)


def test_its_figure_speaks_in_words(sweep):
    figure = find(sweep, "rounds").figure
    assert "accuracy_sampled" not in figure.svg()
    assert "16 runs, 8 seeds" in figure.caption


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    return write_rounds(tmp_path_factory.mktemp("rounds") / "sweep")


def test_each_round_has_its_accuracy_with_an_interval_over_seeds(sweep):
    frame = find(sweep, "rounds").table.frame
    found = {(row.curate, row.round): (row.value, row.low, row.high, row.n) for row in frame.itertuples()}
    assert len(found) == 8
    for procedure, accuracies in PLANTED.items():
        for number, accuracy in enumerate(accuracies):
            value, low, high, seeds = found[procedure, number]
            assert value == pytest.approx(accuracy, abs=4 * NOISE / np.sqrt(8))
            assert low < value < high
            assert seeds == 8


def test_a_rise_that_goes_on_is_told_from_a_plateau(sweep):
    said = find(sweep, "rounds").sentences
    assert "it goes on rising" in next(s for s in said if s.startswith("curate=escaping_collapse: "))
    assert "no change after the first" in next(s for s in said if s.startswith("curate=uncurated: "))
    [against] = [s for s in said if "against curate=uncurated" in s]
    assert "+6." in against or "+5." in against


def test_a_fall_after_the_first_round_is_called_one(tmp_path):
    falling = {"uncurated": (0.8, 0.9, 0.85, 0.7)}
    [said] = find(write_rounds(tmp_path / "falling", falling), "rounds").sentences
    assert "it falls again" in said


def test_one_seed_is_said_to_give_no_interval(tmp_path):
    said = find(write_rounds(tmp_path / "single", seeds=1), "rounds").sentences
    assert all("no interval" in sentence for sentence in said)
    assert not any("rising" in sentence or "falls" in sentence for sentence in said)


def test_a_sweep_without_rounds_says_what_to_record(tmp_path):
    world = World(axes={"optim.lr": (1e-4,), "seed": (0, 1)}, num_items=10)
    write_sweep(tmp_path / "plain", world)
    assert "curate=escaping_collapse" in find(open_sweep(tmp_path / "plain"), "rounds").missing


def changed(folder, change):
    """The sweep of :func:`write_rounds` with its recorded steps changed in place."""
    write_rounds(folder)
    steps, runs = (pq.read_table(folder / f"{name}.parquet").to_pandas() for name in ("steps", "runs"))
    procedure, seed = (runs.set_index("index")[key].reindex(steps["index"]) for key in ("curate", "seed"))
    change(steps, procedure.to_numpy(), seed.to_numpy())
    pq.write_table(pa.Table.from_pandas(steps, preserve_index=False), folder / "steps.parquet")
    return open_sweep(folder)


def test_a_value_within_a_round_is_not_taken_for_its_end(tmp_path):
    def change(steps, procedure, seed):
        steps.loc[steps["step"] == 3, "accuracy_sampled"] = 0.1
        steps.loc[(steps["step"] == 4) & (procedure == "uncurated"), "accuracy_sampled"] = None

    found = find(changed(tmp_path / "within", change), "rounds")
    assert set(found.table.frame["curate"]) == {"escaping_collapse"}
    assert found.table.frame["value"].min() > 0.7
    assert len(found.sentences) == 1
    assert "8 of 16" in found.table.notes[0]


def test_counts_are_of_runs_that_were_judged_after_every_round(tmp_path):
    def change(steps, procedure, seed):
        lost = (procedure == "uncurated") & (seed >= 2) & (steps["step"] > 2)
        steps.loc[lost, ["accuracy_sampled", "round"]] = None

    found = find(changed(tmp_path / "lost", change), "rounds")
    frame = found.table.frame
    assert frame.groupby("curate")["n"].unique().map(list).to_dict() == {
        "escaping_collapse": [8],
        "uncurated": [2],
    }
    assert "10 runs, 8 seeds" in found.figure.caption
    assert "10 of 16" in found.table.notes[0]


def test_procedures_without_a_common_seed_are_not_compared(tmp_path):
    def change(steps, procedure, seed):
        lost = (procedure == "uncurated") == (seed < 4)
        steps.loc[lost & (steps["step"] > 4), ["accuracy_sampled", "round"]] = None

    said = find(changed(tmp_path / "apart", change), "rounds").sentences
    assert [s for s in said if "against" in s] == [
        "curate=escaping_collapse against curate=uncurated: no seed has a run of both that is judged after "
        "every round."
    ]


def test_each_cell_has_its_own_number_of_rounds_and_is_compared_with_its_like(tmp_path):
    world = World(
        axes={"curate": tuple(PLANTED), "curate.rounds": (3, 5), "seed": tuple(range(4))},
        num_steps=10,
        eval_steps=(0, 2, 4, 6, 8, 10),
        item_steps=(0, 10),
        num_items=20,
    )
    write_sweep(tmp_path / "unequal", world)
    folder = tmp_path / "unequal"
    steps = pq.read_table(folder / "steps.parquet").to_pandas()
    runs = pq.read_table(folder / "runs.parquet").to_pandas().set_index("index").reindex(steps["index"])
    steps["round"] = np.where(steps["step"] > 0, -(-steps["step"] // 2), np.nan)
    curated = (runs["curate"] == "escaping_collapse").to_numpy()
    steps["accuracy_sampled"] = np.where(steps["step"] % 2 == 0, 0.5 + 0.02 * steps["step"] * curated, np.nan)
    ended = (runs["curate.rounds"] == 3).to_numpy() & (steps["step"] > 6).to_numpy()
    pq.write_table(pa.Table.from_pandas(steps[~ended], preserve_index=False), folder / "steps.parquet")
    found = find(open_sweep(folder), "rounds")
    assert found.table.frame.groupby("curate.rounds")["round"].max().to_dict() == {3: 3, 5: 5}
    rises = [s.split(":")[1] for s in found.sentences if "against" not in s and "escaping" in s]
    assert [s.split(",")[:2] for s in rises] == [
        [" +12.0 points [+12.0", " +12.0] over 3 rounds"],
        [" +20.0 points [+20.0", " +20.0] over 5 rounds"],
    ]
    against = [s for s in found.sentences if "against" in s]
    assert [s.split("after ")[1] for s in against] == [
        "3 rounds: +12.0 points [+12.0, +12.0].",
        "5 rounds: +20.0 points [+20.0, +20.0].",
    ]


def test_what_an_uncurated_run_does_not_read_keeps_no_cell_from_its_comparison(tmp_path):
    """In sub-grids laid end to end it holds the default of ``curate.beta``, which no curated cell has."""
    folder = tmp_path / "sub-grids"
    world = World(
        axes={"curate": tuple(PLANTED), "curate.beta": (0.0, 0.5), "seed": tuple(range(4))},
        num_steps=6,
        eval_steps=(0, 2, 4, 6),
        item_steps=(0, 6),
        num_items=20,
    )
    write_sweep(folder, world)
    steps, runs = (pq.read_table(folder / f"{name}.parquet").to_pandas() for name in ("steps", "runs"))
    of = runs.set_index("index").reindex(steps["index"])
    kept = ((of["curate"] == "uncurated") == (of["curate.beta"] == 0)).to_numpy()
    steps["round"] = np.where(kept & (steps["step"] > 0), -(-steps["step"] // 2), np.nan)
    steps["accuracy_sampled"] = [
        0.5 + 0.01 * s if k and s % 2 == 0 else None for s, k in zip(steps["step"], kept, strict=True)
    ]
    pq.write_table(pa.Table.from_pandas(steps, preserve_index=False), folder / "steps.parquet")
    [against] = [s for s in find(open_sweep(folder), "rounds").sentences if "against" in s]
    assert against.endswith("after 3 rounds: +0.0 points [+0.0, +0.0].")
