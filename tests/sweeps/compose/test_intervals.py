"""Intervals as words and in sweep files, and a composed search as JSON."""

from __future__ import annotations

import json

import pytest

from sweeps.compose import compose_sweep
from sweeps.compose.frozen_sweep import frozen, thawed
from sweeps.grid.axes import Interval
from sweeps.grid.space import space_of
from sweeps.manifest.build import build_manifest, manifest_of_table
from sweeps.spec.errors import SpecError


def axis_of(key, *words):
    [found] = [a for a in compose_sweep(["sweep=quickstart", *words]).grid.axes if a.key == key]
    return found.interval


@pytest.mark.parametrize(
    ("key", "word", "expected"),
    [
        ("optim.lr", "interval(1e-5,1e-3)", Interval(low=1e-5, high=1e-3)),
        ("optim.lr", "tag(log, interval(1e-5, 1e-3))", Interval(low=1e-5, high=1e-3, log=True)),
        ("steps", "interval(2,9)", Interval(low=2, high=9)),
        ("steps", "tag(log,int(interval(2,9)))", Interval(low=2, high=9, log=True)),
        ("sampling.temperature", "interval(0,1)", Interval(low=0.0, high=1.0)),
    ],
)
def test_words_are_hydras(key, word, expected):
    found = axis_of(key, f"{key}={word}")
    assert found == expected
    assert found.is_whole == expected.is_whole


def test_a_file_has_them_too(tmp_path):
    file = tmp_path / "s.yaml"
    file.write_text(
        "# @package _global_\n"
        "defaults: [override /eval: addition]\n"
        "sweep: {axes: {optim.lr: 'tag(log, interval(1e-5, 1e-3))', seed: range(2)}}\n"
    )
    assert compose_sweep([f"sweep={file}"]).grid.axes[0].interval == Interval(low=1e-5, high=1e-3, log=True)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("optim.lr=interval(1e-3,1e-5)", "the first number must be below"),
        ("optim.lr=tag(sorted, interval(1e-5,1e-3))", "unknown tag 'sorted'"),
        ("steps=interval(2,9.5)", r"steps=9\.5: must be a whole number"),
        ("objective.kl_on=interval(0,1)", "objective.kl_on"),
        ("model=interval(0,1)", "unknown model"),
        ("sharing=interval(0,1)", "is not part of a run"),
    ],
)
def test_what_is_no_interval_is_refused(word, message):
    with pytest.raises(SpecError, match=message):
        compose_sweep(["sweep=quickstart", word])


def test_a_composed_search_is_the_same_as_json():
    words = [
        "sweep=quickstart",
        "search=tpe",
        "optim.lr=tag(log, interval(1e-5, 1e-3))",
        "steps=int(interval(2,9))",
    ]
    composed = compose_sweep(words)
    node = json.loads(json.dumps(frozen(composed)))
    again = thawed(node, name=composed.name, options=composed.options, overrides=composed.overrides)
    assert frozen(again) == node
    assert again.grid == composed.grid
    point = {"model": "tiny-96", "example": "carry-1", "optim.lr": 1.234e-4, "steps": 7}
    first, second = (
        manifest_of_table(c, space_of(c.grid).table([point], [3])).run_ids for c in (composed, again)
    )
    assert first == second


def test_a_run_of_a_search_is_the_run_of_a_grid():
    composed = compose_sweep(["sweep=quickstart", "search=tpe", "optim.lr=interval(1e-5, 1e-3)"])
    point = {"model": "tiny-96", "example": "carry-1", "optim.lr": 1e-4}
    found = manifest_of_table(composed, space_of(composed.grid).table([point], [3]))
    grid = compose_sweep(["sweep=quickstart", "model=tiny-96", "example=carry-1", "optim.lr=1e-4", "seed=3"])
    assert found.run_ids == build_manifest(grid).run_ids
