"""No name that a trainer chooses hides another column or is answered with another's values."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.store.column_names import ColumnNames

WORDS = st.text("aAbB.", min_size=1, max_size=3) | st.sampled_from(
    ["index", "INDEX", "seed", "metric.seed", "lr"]
)


def test_names_that_are_free_stay():
    assert ColumnNames().row({"loss": 1, "eval.Loss": 2}) == {"loss": 1, "eval.Loss": 2}


def test_names_of_axes_and_of_what_is_known_of_every_run_get_a_namespace():
    names = ColumnNames(["optim.lr"])
    assert names.row({"Seed": 1, "optim.lr": 2, "lr": 3}) == {"metric.Seed": 1, "metric.optim.lr": 2, "lr": 3}


def test_a_name_of_another_case_is_the_column_that_came_first():
    names = ColumnNames()
    assert names.row({"loss": 1}) == {"loss": 1}
    assert names.row({"Loss": 2}) == {"loss": 2}
    assert names.row({"Loss": 3, "loss": 4}) == {"loss": 3, "metric.loss": 4}


@given(st.lists(st.dictionaries(WORDS, st.integers(), max_size=6), max_size=4))
def test_no_value_is_lost_and_no_two_columns_differ_in_case_only(rows):
    names, columns = ColumnNames(["lr"]), set()
    for row in rows:
        found = names.row(row)
        assert list(found.values()) == list(row.values())
        columns |= found.keys()
    assert len({c.lower() for c in columns}) == len(columns)
    assert not {"index", "seed", "lr"} & {c.lower() for c in columns}
