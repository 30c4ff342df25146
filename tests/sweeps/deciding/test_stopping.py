"""Early stopping: who goes on, by what was reported so far."""

from __future__ import annotations

import sys

import pytest

from sweeps.deciding.stopping import EarlyStopping
from sweeps.spec.errors import SpecError
from sweeps.spec.prune_rules import PruneSpec


def test_asha_lets_the_best_of_each_rung_go_on():
    stopping = EarlyStopping(PruneSpec(kind="asha", min_steps=1, reduction=2), maximize=True)
    assert not stopping.report("first", 1, 0.5), "nobody to compare with"
    assert stopping.report("worse", 1, 0.4)
    assert not stopping.report("better", 1, 0.6)
    assert not stopping.report("better", 2, 0.1), "the first at its rung"
    assert not stopping.report("best", 1, 0.9)
    assert not stopping.report("best", 2, 0.2)
    assert stopping.report("first", 2, 0.15), "the second rung has two that are better or as many as it holds"


def test_smaller_may_be_better():
    stopping = EarlyStopping(PruneSpec(kind="asha", reduction=2), maximize=False)
    assert not stopping.report("a", 1, 0.5)
    assert stopping.report("b", 1, 0.6)
    assert not stopping.report("c", 1, 0.4)


def test_the_median_is_that_of_runs_that_have_ended():
    stopping = EarlyStopping(PruneSpec(kind="median", min_steps=2, startup_runs=3), maximize=True)
    for name, height in (("a", 1.0), ("b", 2.0), ("c", 3.0)):
        for step in (1, 2, 3):
            assert not stopping.report(name, step, height)
        stopping.ended(name, height)
    assert not stopping.report("low", 1, 0.0), "every run takes min_steps"
    assert stopping.report("low", 2, 0.0)
    assert not stopping.report("high", 1, 2.5)
    assert not stopping.report("high", 2, 2.5)


def test_wilcoxon_compares_instance_by_instance_with_the_best_run():
    stopping = EarlyStopping(PruneSpec(kind="wilcoxon", min_steps=2), maximize=True)
    for instance in range(8):
        assert not stopping.report("best", instance, 0.9 + 0.001 * instance)
    stopping.ended("best", 0.9)
    told = [stopping.report("worse", instance, 0.5 + 0.01 * instance) for instance in range(8)]
    assert not any(told[:2])
    assert told[-1]
    assert not any(stopping.report("as good", instance, 0.9 + 0.001 * instance) for instance in range(8))


def test_what_was_told_is_not_told_twice():
    stopping = EarlyStopping(PruneSpec(kind="asha", reduction=2), maximize=True)
    assert not stopping.report("a", 1, 0.5)
    assert not stopping.report("a", 1, 0.1), "a second attempt tells the same steps again"
    assert not stopping.report("a", 0, 0.1)
    stopping.ended("a", 0.5)
    stopping.ended("a", None)
    assert not stopping.report("a", 9, 0.1), "it is over"
    stopping.ended("never heard of", None)


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(SpecError, match=r"prune=asha: needs optuna.*pip install 'emsweep\[search\]'"):
        EarlyStopping(PruneSpec(kind="asha"), maximize=True)
