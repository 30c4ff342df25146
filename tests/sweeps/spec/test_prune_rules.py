"""The options of early stopping."""

from __future__ import annotations

import pytest

from sweeps.compose import compose_sweep
from sweeps.spec.errors import SpecError
from sweeps.spec.prune_rules import PRUNERS, PruneSpec, prune_of
from sweeps.spec.search_rules import same_search


def options(*words):
    return compose_sweep(["sweep=noop", *words]).options


@pytest.mark.parametrize("kind", PRUNERS)
def test_every_pruner_has_an_option_with_the_defaults(kind):
    found = prune_of(options(f"prune={kind}"))
    assert found == PruneSpec(kind=kind, **({"min_steps": 2} if kind == "wilcoxon" else {}))
    assert prune_of({"prune": found.to_json()}) == found


def test_without_the_option_every_run_goes_on():
    assert prune_of(options()) is None
    assert prune_of({}) is None


def test_other_early_stopping_is_another_launch():
    first = options("prune=asha")
    assert same_search(first, options("prune=asha", "prune.reduction=4"))
    assert not same_search(first, options("prune=asha", "prune.reduction=3"))
    assert not same_search(first, options())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["prune=ashe"], 'did you mean "asha"'),
        (["prune=asha", "prune.reduction=1"], "must be at least 2"),
        (["prune=asha", "prune.min_steps=0"], "must be at least 1"),
        (["prune=asha", "prune.min_steps=1.5"], "must be int"),
        (["prune=asha", "prune.min_steps=null"], "needs a value"),
        (["prune=asha", "+prune.p=0.1"], "prune=asha has metric, min_steps, reduction"),
        (["prune=median", "prune.startup_runs=0"], "must be at least 1"),
        (["prune=wilcoxon", "prune.min_steps=1"], "must be at least 2"),
        (["prune=wilcoxon", "prune.p=1"], "a chance between 0 and 1"),
    ],
)
def test_what_is_no_early_stopping_is_refused(words, message):
    with pytest.raises(SpecError, match=message):
        prune_of(options(*words))
