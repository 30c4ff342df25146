"""Hydra and OmegaConf still have inside what is used of them."""

from __future__ import annotations

from importlib.metadata import version

import pytest
from omegaconf import OmegaConf

from sweeps import hydra_internals
from sweeps.compose.session import CONFIG_NAME, opened


@pytest.mark.parametrize("package", ["hydra-core", "omegaconf"])
def test_the_version_installed_is_the_one_that_was_read(package):
    installed = version(package)
    assert installed == hydra_internals.CHECKED_VERSIONS[package], (
        f"read sweeps/hydra_internals.py against {package} {installed}, then name it there"
    )


def test_a_started_word_goes_on_with_the_options_of_its_group():
    with opened([]) as (loader, _):
        assert "optim=adamw" in hydra_internals.possible_endings(loader, CONFIG_NAME, "optim=")


def test_a_folder_that_is_searched_first_offers_its_options(tmp_path):
    (tmp_path / "optim").mkdir()
    (tmp_path / "optim" / "mine.yaml").write_text("lr: 1.0\n")
    with opened([]) as (loader, _):
        hydra_internals.search_first(loader, f"file://{tmp_path}")
        assert {"mine", "adamw"} <= set(hydra_internals.group_options(loader, "optim"))
        assert hydra_internals.group_options(loader, "optim") == loader.get_group_options("optim")


def test_a_value_is_read_with_its_references_unresolved():
    config = OmegaConf.create({"a": {"b": "${c}", "d": [1, "${c}"], "none": None}, "c": 3})
    assert hydra_internals.plain_value(config, ["a", "b"]) == (True, "${c}")
    assert hydra_internals.plain_value(config, ["a", "d"]) == (True, [1, "${c}"])
    assert hydra_internals.plain_value(config, ["a", "none"]) == (True, None)
    assert hydra_internals.plain_value(config, ["a", "b", "x"]) == (False, None)


def test_resolvers_of_another_process_are_added_and_none_is_replaced():
    OmegaConf.register_new_resolver("emsweep_kept", lambda: "kept", replace=True)
    OmegaConf.register_new_resolver("emsweep_sent", lambda: "sent", replace=True)
    sent = hydra_internals.resolvers()
    try:
        OmegaConf.clear_resolver("emsweep_sent")
        OmegaConf.register_new_resolver("emsweep_kept", lambda: "its own", replace=True)
        hydra_internals.add_resolvers(sent)
        config = OmegaConf.create({"kept": "${emsweep_kept:}", "sent": "${emsweep_sent:}"})
        assert (config.kept, config.sent) == ("its own", "sent")
    finally:
        OmegaConf.clear_resolver("emsweep_kept")
        OmegaConf.clear_resolver("emsweep_sent")
