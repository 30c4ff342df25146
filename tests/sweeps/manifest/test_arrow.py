"""Arrow arrays made without pandas equal those that pyarrow makes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.manifest import arrow

KINDS = [
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=5),
    st.lists(st.integers(0, 9), max_size=3),
    st.lists(st.text(max_size=2), max_size=3),
]


@settings(deadline=None)
@given(data=st.data(), kind=st.sampled_from(KINDS))
def test_plain_values_come_back_as_pyarrow_would_give_them(data, kind):
    values = data.draw(st.lists(st.none() | kind, max_size=20))
    made = arrow.array(values)
    made.validate(full=True)
    assert made.to_pylist() == values
    if any(v not in (None, []) for v in values):
        assert made.type == pa.array(values).type


def test_whole_and_other_numbers_together_are_floats():
    assert arrow.array([1, None, 0.5]).equals(pa.array([1.0, None, 0.5]))


@pytest.mark.parametrize("values", [[1, "a"], [True, 1], [{"a": 1}], [[1], 2]])
def test_a_mixture_of_kinds_is_refused_with_the_name_of_its_column(values):
    with pytest.raises(TypeError, match="loss: holds"):
        arrow.array(values, "loss")


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8, np.float64])
@settings(deadline=None)
@given(values=st.lists(st.integers(0, 100), max_size=30), cut=st.integers(0, 30), seed=st.integers(0, 9))
def test_numbers_survive_the_way_there_and_back_with_nulls_slices_and_chunks(dtype, values, cut, seed):
    numbers = np.array(values, dtype=dtype)
    missing = np.random.default_rng(seed).random(len(values)) < 0.3
    array = arrow.numbers(numbers, missing)
    assert array.to_pylist() == [None if m else v for v, m in zip(numbers.tolist(), missing, strict=True)]
    expected = np.where(missing, dtype(7), numbers)
    chunks = pa.chunked_array([array[:cut], array[cut:]], array.type)
    assert arrow.as_numpy(chunks, null=7).tolist() == expected.tolist()
    assert arrow.as_numpy(array[cut:], null=7).tolist() == expected[cut:].tolist()


def test_nulls_are_not_passed_off_as_numbers():
    with pytest.raises(ValueError, match="1 of 2 values are null"):
        arrow.as_numpy(arrow.array([1, None]))


def test_a_whole_sweep_runs_without_pandas(tmp_path):
    script = (
        "import sys; from orchestrator.cli import main\n"
        "assert main(sys.argv[1:]) == 0\n"
        "print('pandas' in sys.modules, file=sys.stderr)"
    )
    words = ["launch", "sweep=noop", "sweep.n=20", "+trainer.params.steps=2", "--dir", str(tmp_path / "n")]
    done = subprocess.run(
        [sys.executable, "-c", script, *words, "--pool", "local", "--json"], capture_output=True, text=True
    )
    assert done.stderr.strip() == "False"
