"""YAML that is made to exhaust its reader is refused in milliseconds; all else is read as it is."""

from __future__ import annotations

import pytest
import yaml

from sweeps.spec.plain_yaml import load_plain


def bomb(levels):
    lines = ["x0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"x{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, levels)]
    return "\n".join(lines)


def test_aliases_that_stand_for_a_billion_values_are_refused():
    with pytest.raises(yaml.YAMLError, match="more than 1,000,000 values"):
        load_plain(bomb(9))


def test_aliases_of_ordinary_use_are_read():
    assert load_plain(bomb(2))["x1"] == [[1] * 10] * 10
    assert load_plain("a: &x {b: 1}\nc: *x") == {"a": {"b": 1}, "c": {"b": 1}}
    assert load_plain("") is None


def test_values_that_hold_themselves_or_are_nested_without_end_are_refused():
    with pytest.raises(yaml.YAMLError, match="holds it"):
        load_plain("a: &x [*x]")
    with pytest.raises(yaml.YAMLError, match="nested too deeply"):
        load_plain("[" * 20_000)


def test_a_tag_constructs_nothing():
    with pytest.raises(yaml.YAMLError):
        load_plain('!!python/object/apply:os.system ["true"]')
