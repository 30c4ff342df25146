from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis import open_sweep
from analysis.findings import find
from tests.analysis.synthetic import quickstart_world, write_sweep

EXAMPLES, SEEDS = 12, 8


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Twelve examples, each gaining a point more than the one before; entropy knows, length does not."""
    axes = {"example.rows": tuple(range(EXAMPLES)), "seed": tuple(range(SEEDS))}
    directory = write_sweep(
        tmp_path_factory.mktemp("pool") / "pool", quickstart_world(axes=axes, num_items=4)
    )
    runs = pd.read_parquet(directory / "runs.parquet")
    example = runs["example.rows"].astype(int).to_numpy()
    luck = np.random.default_rng(0).normal(0, 0.002, len(runs))
    runs["gain_sampled"] = 0.01 * example + luck
    runs["first_entropy_nats"] = 0.1 + 0.01 * example
    runs.to_parquet(directory / "runs.parquet", index=False)
    return open_sweep(directory)


def test_a_rule_that_knows_picks_the_best_and_its_opposite_the_worst(planted):
    frame = find(planted, "picking").table.frame.set_index("rule")
    knows, opposite = (frame.loc[f"{end} initial entropy, nats"] for end in ("highest", "lowest"))
    assert (knows["rank"], knows["percentile"]) == (1, 1.0)
    assert (opposite["rank"], opposite["percentile"]) == (EXAMPLES, 0.0)
    assert knows["regret"] == pytest.approx(0, abs=0.003)
    assert opposite["regret"] == pytest.approx(-0.11, abs=0.005)
    assert frame.loc["at random", "percentile"] == pytest.approx(0.5)


def test_the_example_is_told_from_the_seed(planted):
    shares = find(planted, "picking").sentences[0]
    assert "99.7 % is the example" in shares or "99.8 % is the example" in shares


def test_few_examples_are_too_few_to_rank(planted):
    few = planted.where("example.rows=0,1,2")
    assert "8 examples" in find(few, "picking").missing


def test_the_examples_finding_reads_rows_as_examples(planted):
    assert find(planted, "examples").sentences[0].startswith(f"Best example: {EXAMPLES - 1} (")
