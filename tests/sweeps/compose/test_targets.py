from __future__ import annotations

import pytest

from sweeps.compose import compose_sweep
from sweeps.manifest.build import build_manifest
from sweeps.spec import SpecError


@pytest.fixture
def options(tmp_path):
    """A folder with an option of ``trainer`` in Hydra's spelling, as a word of the command line."""
    (tmp_path / "trainer").mkdir()
    (tmp_path / "trainer" / "mine.yaml").write_text("_target_: my.Loop\nparams: {width: 3}\n")
    (tmp_path / "trainer" / "flat.yaml").write_text("_target_: my.Loop\nwidth: 3\n")
    return f"hydra.searchpath=[file://{tmp_path}]"


def spec_of(*words):
    return build_manifest(compose_sweep(words)).spec(0)


def test_hydras_spelling_names_the_same_run(options):
    plain = spec_of("trainer.target=my.Loop", "+trainer.params.width=3")
    for words in ([options, "trainer=mine"], ["trainer._target_=my.Loop", "+trainer.params.width=3"]):
        assert spec_of(*words).run_id == plain.run_id


def test_a_word_wins_over_a_file(options):
    assert spec_of(options, "trainer=mine", "trainer.target=my.Other").trainer.target == "my.Other"
    assert spec_of(options, "trainer=mine", "trainer._target_=my.Other").trainer.target == "my.Other"


def test_parameters_beside_the_target_are_refused_with_their_place(options):
    with pytest.raises(SpecError, match=r"params: \{width: …\}"):
        spec_of(options, "trainer=flat")


def test_two_different_targets_are_refused(options, tmp_path):
    file = tmp_path / "both.yaml"
    file.write_text(
        "# @package _global_\ndefaults: [override /trainer: mine]\ntrainer: {target: my.Third}\n"
        "sweep: {axes: {}}\n"
    )
    with pytest.raises(SpecError, match=r"my\.Third.*my\.Loop.*keep one"):
        spec_of(options, f"sweep={file}")


def test_the_trainer_can_be_an_axis(options):
    manifest = build_manifest(compose_sweep([options, "trainer=mine,noop", "seed=range(2)"]))
    assert {manifest.spec(i).trainer.target for i in range(4)} == {"my.Loop", "trainers.noop.Noop"}
