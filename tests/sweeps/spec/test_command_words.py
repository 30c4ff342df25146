"""The words of a command: what is filled in, and what is refused before anything starts."""

from __future__ import annotations

import pytest

from sweeps.compose import compose_sweep
from sweeps.manifest.build import build_manifest
from sweeps.spec import RunSpec, SpecError, TrainerSpec
from sweeps.spec.command_words import filled, placeholders, value_of_key

BASE = ("trainer=command", "example=text", "eval=none")


def manifest_of(*words):
    return build_manifest(compose_sweep([*BASE, *words]))


def test_placeholders_are_filled_with_what_the_run_holds():
    spec = RunSpec(seed=3, trainer=TrainerSpec(params={"a": {"b": [1, "x"]}, "c": None, "d": True}))

    def fill(word):
        return filled(word, lambda key: value_of_key(spec, key))

    assert fill("--lr={optim.lr}") == f"--lr={spec.optim.lr!r}"
    assert fill("{seed}{seed}-{{seed}}") == "33-{seed}"
    assert fill("{trainer.params.a.b} {trainer.params.c} {trainer.params.d}") == '[1, "x"] null true'
    assert fill('{"json": {seed}, "x": {}}') == '{"json": 3, "x": {}}'
    assert placeholders("{{a}} {b.c} {1}") == ["b.c"]


def test_words_are_what_a_run_is_and_where_metrics_are_read_is_not():
    words = "trainer.command=[sleep,1,'{optim.lr}']"
    ids = manifest_of(words).run_ids
    assert manifest_of(words, "trainer.metrics_from=[json:a.json]").run_ids == ids
    assert manifest_of(words.replace("1", "2")).run_ids != ids
    assert manifest_of(words, "trainer.patterns.loss='loss (.*)'").run_ids != ids
    assert len(set(manifest_of(words, "optim.lr=1e-4,1e-3").run_ids)) == 2


def test_hydras_own_references_are_words_too():
    manifest = manifest_of("trainer.command=[a,'${optim.lr}']", "optim.lr=1e-4,1e-3")
    assert [manifest.spec(i).trainer.command for i in range(2)] == [("a", "0.0001"), ("a", "0.001")]


def test_a_command_may_be_an_axis():
    manifest = manifest_of("trainer.command=[a,1],[b]")
    assert [manifest.spec(i).trainer.command for i in range(2)] == [("a", "1"), ("b",)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trainer.command=[a,'{lr}']"], r"\{lr\} is no key of a run \(did you mean 'optim.lr'"),
        (["trainer.command=[a,'{sed}']"], 'did you mean "seed"'),
        (["trainer.command=[a,'{trainer.params.x}']"], "is no key of a run"),
        (["trainer.command=[a,'{seed:03d}']"], r"without a format; give \{seed\}"),
        (["trainer.command=[]"], "is empty; give its words"),
        (["trainer.command=['']"], "is empty"),
        (["trainer.command=[a]", "+trainer.params.x=1"], "no word of the command has it"),
        (["trainer.command=[a]", "trainer.patterns.loss=loss"], "has no group"),
        (["trainer.command=[a]", "trainer.patterns.loss='('"], "is no regular expression"),
        (["trainer.command=[a]", "trainer.metrics_from=[jso:x]"], 'unknown source \\(did you mean "json"'),
        (["trainer.command=[a]", "trainer.metrics_from=[json]"], "names no file"),
        (["trainer.command=[a]", "trainer.metrics_from=['json:../x']"], "must lie in the run's own folder"),
        (["trainer.command=[a]", "trainer.metrics_from=['json:/etc/x']"], "must lie in the run's own folder"),
        (["trainer.command=[a]", "resources.world_size=2"], "a command is started once"),
        (["trainer.command=[python,nothing.py]"], "there is no nothing.py in"),
        (["trainer.command=[./nothing.sh]"], "there is no ./nothing.sh in"),
        (["trainer.command=[a]", "optim.lr=1e-4,1e-3"], r"axis optim\.lr: no word of the command has it"),
        (["trainer=noop", "trainer.command=[a]"], "runs no command; choose it with"),
    ],
)
def test_a_command_that_cannot_be_meant_is_refused(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError, match=message):
        manifest_of(*words)
