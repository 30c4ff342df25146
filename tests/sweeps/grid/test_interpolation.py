import pytest

from sweeps.grid.interpolation import settle
from sweeps.spec import SpecError


def settled(value, path=("sweep", "a"), known=None):
    known = known or {"sweep.n": 5, "cluster.pool": "ray"}
    return settle(value, path, known.__getitem__, lambda text: "HOME")


def test_references_into_a_run_stay_and_others_are_looked_up():
    assert settled("${optim.lr}") == "${optim.lr}"
    assert settled("${sweep.n}") == 5
    assert settled("range(${sweep.n})") == "range(5)"
    assert settled({"x": ["${cluster.pool}-${model.name}"]}) == {"x": ["ray-${model.name}"]}


def test_relative_references_are_spelled_from_the_root():
    assert settled("${.lr}", ("optim", "x")) == "${optim.lr}"
    assert settled("${..model.name}", ("optim", "x")) == "${model.name}"


def test_resolvers_are_replaced_and_missing_values_are_none():
    assert settled("${oc.env:X}/file") == "HOME/file"
    assert settled("???") is None


def test_a_reference_inside_a_reference_is_refused():
    with pytest.raises(SpecError, match="references inside references"):
        settled("${oc.env:X,${optim.lr}}")
