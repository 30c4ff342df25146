from __future__ import annotations

import numpy as np
import pytest

from analysis import open_sweep
from analysis.dashboard.run_grid import Choice, condition, default_columns, grouped, page_of
from analysis.tables.cell_table import cell_table
from sweeps.spec.errors import UserError


@pytest.fixture(scope="module")
def sweep(ragged):
    return open_sweep(ragged)


def choose(**changes):
    return Choice(**{"columns": ("run_id", "gain_sampled"), "size": 25, **changes})


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort", ["gain_sampled", "model", "run_id", "index"])
def test_pages_in_a_row_are_all_runs_once_in_order(sweep, sort, descending):
    seen, number = [], 1
    while True:
        page = page_of(sweep, choose(sort=sort, descending=descending, page=number, columns=("run_id", sort)))
        seen += page.rows
        if number == page.pages:
            break
        number += 1
    assert len(seen) == len({row["run_id"] for row in seen}) == page.total == 96
    values = [row[sort] for row in seen if row[sort] is not None]
    assert values == sorted(values, reverse=descending)
    assert all(row[sort] is None for row in seen[len(values) :])  # what is missing comes last, either way


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("gain_sampled<0", lambda f: f["gain_sampled"] < 0),
        ("gain_sampled>=0 model=tiny-64", lambda f: (f["gain_sampled"] >= 0) & (f["model"] == "tiny-64")),
        ("lr=1e-4,2e-4", lambda f: f["optim.lr"].isin([1e-4, 2e-4])),
        ("!gain_sampled<0", lambda f: ~(f["gain_sampled"] < 0)),
        ("accuracy_sampled=null", lambda f: f["accuracy_sampled"].isna()),
        ("error=*planted*", lambda f: f["error"].notna()),
        ("error!=*planted*", lambda f: f["error"].isna()),
        ("outcome=failed", lambda f: f["outcome"] == "failed"),
        ("cell=3", lambda f: f["cell"] == 3),
        ("worker=w_", lambda f: f["worker"] == "no such"),  # an underscore stands for itself
        ("", lambda f: f["index"] >= 0),
    ],
)
def test_filters_mean_what_pandas_finds(sweep, text, holds):
    frame = sweep.runs()
    expected = set(frame[holds(frame)]["run_id"])
    rows = sweep.query(f"SELECT run_id FROM runs WHERE {condition(sweep, text)}")
    assert set(rows["run_id"]) == expected


@pytest.mark.parametrize("text", ["'; DROP TABLE runs; --", "gain_sampled<'x'", "(name=1"])
def test_a_filter_is_data_never_sql(sweep, text):
    with pytest.raises((UserError, ValueError)):
        condition(sweep, text)


def test_a_quote_in_a_value_stays_in_the_value(sweep):
    assert page_of(sweep, choose(filter='''name="x' OR 'a'='a"''')).total == 0


def test_a_page_beyond_the_last_is_the_last(sweep):
    page = page_of(sweep, choose(page=10_000))
    assert page.number == page.pages == 4
    assert page.rows


def test_groups_have_the_numbers_of_the_table(sweep):
    frame = grouped(sweep, ["model", "lr"], "accuracy_sampled").frame
    table = cell_table(sweep, by=["model", "optim.lr"], robust=False, over="seeds").frame
    for ours, theirs in (("mean", "mean"), ("low", "mean_low"), ("high", "mean_high"), ("n", "n")):
        np.testing.assert_allclose(frame[ours], table[theirs])


def test_default_columns_exist(sweep):
    assert set(default_columns(sweep)) <= set(sweep.runs().columns)
