"""The options of a search by a sampler."""

from __future__ import annotations

import pytest

from sweeps.compose import compose_sweep
from sweeps.spec.errors import SpecError
from sweeps.spec.metrics import MetricInfo
from sweeps.spec.sampler_rules import SAMPLERS, SamplerSpec, require_searchable
from sweeps.spec.search_rules import RaceSpec, race_of, same_search, sampler_of, search_of


def options(*words):
    return compose_sweep(["sweep=quickstart", *words]).options


@pytest.mark.parametrize("kind", SAMPLERS)
def test_every_sampler_has_an_option_with_the_defaults(kind):
    found = sampler_of(options(f"search={kind}"))
    assert found == SamplerSpec(kind=kind)
    assert sampler_of(
        {"search": found.to_json() | ({} if kind in ("tpe", "gp", "cmaes") else {"startup": None})}
    )


def test_one_option_is_one_thing():
    assert isinstance(search_of(options("search=race")), RaceSpec)
    assert race_of(options("search=tpe")) is None
    assert sampler_of(options("search=race")) is None
    assert search_of(options()) is None


def test_other_settings_are_another_search():
    first = options("search=tpe")
    assert same_search(first, options("search=tpe", "search.trials=100"))
    assert not same_search(first, options("search=tpe", "search.trials=101"))
    assert not same_search(first, options("search=random"))
    assert not same_search(first, {**first, "space": {"axes": []}})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["search=tep"], 'unknown search .did you mean "tpe"'),
        (["search=tpe", "search.trials=0"], r"search\.trials=0: must be at least 1"),
        (["search=tpe", "search.trials=2.5"], r"search\.trials=2\.5: must be int"),
        (["search=tpe", "search.trials=null"], "needs a value"),
        (["search=tpe", "search.seeds_per_trial=0"], "must be at least 1"),
        (["search=tpe", "search.held_out_seeds=-1"], "must be 0 or more"),
        (["search=tpe", "search.max_concurrent=0"], "at least 1, or null"),
        (["search=tpe", "search.gpu_hours=0"], "above 0"),
        (["search=tpe", "search.seed=-1"], "between 0 and"),
        (["search=tpe", "search.diverged=best"], "worst, left_out"),
        (["search=random", "+search.startup=3"], "learns from no trial"),
        (["search=tpe", "+search.alpha=0.1"], "search=tpe has trials"),
    ],
)
def test_what_is_no_search_is_refused(words, message):
    with pytest.raises(SpecError, match=message):
        search_of(options(*words))


def test_a_metric_without_a_better_end_decides_nothing():
    with pytest.raises(SpecError, match=r"trainer\.metrics\.loss: \{direction: max\}"):
        require_searchable(SamplerSpec(), "loss", MetricInfo(direction="none"))
