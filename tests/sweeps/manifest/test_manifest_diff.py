import dataclasses
import functools

from sweeps.compose import compose_sweep
from sweeps.grid.grid import axis, product
from sweeps.manifest.build import build_manifest
from sweeps.manifest.manifest_diff import differences


@functools.cache
def composed():
    return compose_sweep(["example=text", "eval=none"], grid=product(axis("seed", [0])))


def build(axes, **base):
    """A manifest whose base values are changed, keyed like `optim__weight_decay`."""
    layers = composed().layers
    values = {g: dict(v) if isinstance(v, dict) else v for g, v in layers.base.items()}
    for key, value in base.items():
        group, _, name = key.partition("__")
        values[group][name] = value
    layers = dataclasses.replace(layers, base=values)
    return build_manifest(dataclasses.replace(composed(), grid=product(*axes), layers=layers))


def shown(old, new):
    return [str(d) for d in differences(old, new)]


def test_a_changed_key_is_named_with_both_values():
    axes = [axis("seed", [0, 1])]
    assert shown(build(axes), build(axes, optim__weight_decay=0.1)) == [
        "optim.weight_decay: 0.01 on disk, 0.1 asked for"
    ]


def test_added_and_dropped_values_of_an_axis_are_told_apart():
    assert shown(build([axis("seed", [0, 1])]), build([axis("seed", [1, 2, 3])])) == [
        "seed: 0 on disk, 2, 3 asked for"
    ]
    assert shown(build([axis("seed", [0])]), build([axis("seed", range(8))])) == [
        "seed: 1, 2, 3, 4 and 3 more added"
    ]
    assert shown(build([axis("steps", [5, 10])]), build([axis("steps", [10])])) == [
        "steps: 5 no longer asked for"
    ]


def test_what_is_outside_the_identity_is_no_difference():
    axes = [axis("seed", [0])]
    assert shown(build(axes), build(axes, engine__zero_stage=2, resources__timeout_s=9.0)) == []


def test_long_values_are_cut_and_free_parameters_are_compared_key_by_key():
    old, new = build([axis("seed", [0])]), build([axis("seed", [0])], example__prompts=["x" * 99])
    [line] = shown(old, new)
    assert len(line) < 120
    axes = [axis("trainer.params.width", [1])], [axis("trainer.params.width", [2])]
    assert shown(*(build(a, trainer__target="own.Trainer") for a in axes)) == [
        "trainer.params.width: 1 on disk, 2 asked for"
    ]


def test_the_same_values_combined_differently_have_no_key_to_blame():
    def zipped(first, second):
        grid = product(axis("seed", first), axis("steps", second)).zip("seed", "steps")
        return build_manifest(dataclasses.replace(composed(), grid=grid))

    assert shown(zipped([0, 1], [5, 6]), zipped([0, 1], [6, 5])) == []
