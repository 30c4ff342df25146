"""Words and keys that would change nothing are refused; none ends in a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sweeps.compose import compose_sweep
from sweeps.compose.unread import CLUSTER_KEYS, OPTIONS
from sweeps.manifest.build import build_manifest
from sweeps.spec import SpecError

AXES = "sweep: {axes: {seed: [1]}}\n"


def written(tmp_path, text):
    (tmp_path / "mine.yaml").write_text(text)
    return f"sweep={tmp_path / 'mine.yaml'}"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("hydra.sweep.dir=/tmp/x", "name the directory with --dir"),
        ("hydra.run.dir=x", "name the directory with --dir"),
        ("hydra/launcher=joblib", "cluster="),
        ("+hydra/launcher=joblib", "cluster="),
        ("hydra.launcher.n_jobs=4", "cluster="),
        ("hydra/sweeper=optuna", "write the axes as words"),
        ("hydra.sweeper.params.seed=0", "write the axes as words"),
        ("++hydra.sweeper.params.seed=0", "write the axes as words"),
        ("~hydra.sweeper", "write the axes as words"),
        ("hydra.mode=MULTIRUN", "several values of a key make a sweep"),
        ("hydra.job.chdir=true", "keep the working folder"),
        ("hydra.job.name=x", r"sweep\.name="),
        ("hydra.verbose=true", "emsweep log"),
        ("hydra.nothing=1", "leave it out"),
        ("hydra=x", "leave it out"),
        ("hydra.searchpath=[file:///no/such/folder]", "no such folder"),
        ("hydra.searchpath=folder", "no such folder"),
        ("hydra.searchpath=null", "no such folder"),
        ("hydra.searchpath={a: 1}", "no such folder"),
        ("hydra.searchpath=[pkg://no_such_package]", "no such folder"),
        ("+sharin=off", 'did you mean "sharing"'),
        ("++sharin=off", 'did you mean "sharing"'),
        ("+step=3", 'did you mean "steps"'),
        ("+notes.mine=1", "notes: nothing reads it"),
        ("+sweep.foo=1", r"refer to it as \$\{sweep\.foo\}"),
        ("+cluster.num_workrs=1", 'did you mean "cluster.num_workers"'),
        ("+cluster.retries.omm=1", 'did you mean "cluster.retries.oom"'),
        ("+budget.gpu_hour=1", 'did you mean "budget.gpu_hours"'),
        ("budget=5", "must be a mapping"),
        ("eval=null", "choose eval=none"),
        ("eval=''", "unknown eval"),
        ("eval=[addition]", "unknown eval"),
        ("eval={a: 1}", "unknown eval"),
        ("model=null", "unknown model"),
        ("cluster=null", "unknown cluster"),
        ("+eval=addition", "Multiple values for eval"),
        ("eval@other=addition", "Could not override"),
        ("+=1", "cannot compose"),
        ("sweep.about=[1, 2]", "must be text"),
        ("seed=" + "9" * 5000, "is not an override"),
        ("optim.lr=range(0.1,inf,0.1)", "has no end"),
        ("optim.lr=range(nan,1,0.1)", "has no end"),
        ("example.name=\udcff", "half a character"),
        ("example.name=" + "x" * 300 + "\ud83d", "half a character"),
    ],
)
def test_a_word_that_changes_nothing_is_refused_in_one_line_with_what_to_do_instead(word, message):
    with pytest.raises(SpecError, match=message) as caught:
        compose_sweep(["sweep=noop", word])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sweep:\n", "must hold axes"),
        ("sweep: hello\n", "must hold axes"),
        ("sweep: [1]\n", "a list stands where settings belong"),
        ("eval:\n" + AXES, r"override /eval: none"),
        ("eval: [addition]\n" + AXES, "a list stands where settings belong"),
        ("defaults: [override /evl: none]\n" + AXES, "Could not override 'evl'"),
        ("defaults: text\n" + AXES, "defaults must be a list"),
        ("defaults: [1]\n" + AXES, "Unsupported type in defaults"),
        ("hydra: {sweep: {dir: x}}\n" + AXES, r"hydra\.sweep\.dir changes nothing"),
        ("hydra:\n" + AXES, "hydra changes nothing"),
        ("defaults: [override /hydra/launcher: basic]\n" + AXES, "hydra/launcher changes nothing"),
        ("sharin: off\n" + AXES, 'did you mean "sharing"'),
        ("optm: {lr: 1}\n" + AXES, 'did you mean "optim"'),
        ("3: 4\n" + AXES, "3: nothing reads it"),
        ("budget: {gpu_hour: 1}\n" + AXES, 'did you mean "budget.gpu_hours"'),
        ("cluster: {retries: {omm: 1}}\n" + AXES, 'did you mean "cluster.retries.oom"'),
        ("cluster: laptop\n" + AXES, "must be a mapping"),
        ('eval: {system: "a\\ud83d"}\n' + AXES, r"eval\.system=.*half a character"),
        ('sweep: {about: "\\ud83d", axes: {seed: [1]}}\n', r"sweep\.about=.*half a character"),
        ('sweep: {axes: {eval.system: ["\\ud83d"]}}\n', "half a character"),
        ("sweep: {axes: {seed: {values: [1], when: 3}}}\n", "must be text"),
        ("sweep: {name: [a], axes: {seed: [1]}}\n", "must be text"),
        ("eval: {pattern: '('}\n" + AXES, r"eval\.pattern='\(': is no regular expression"),
        ("eval: {pattern: 'a{99999999999}'}\n" + AXES, "is no regular expression"),
        ("objective: {answer_pattern: '[z-a]'}\n" + AXES, "is no regular expression"),
        ("trainer: {params: {x: 1}}\n" + AXES, "reads no parameters"),
        ("example: {path: 5}\n" + AXES, "must be text"),
        ("example: {path: null, prompts: [' ']}\n" + AXES, r"example\.prompts\[0\]=' ': is empty text"),
    ],
)
def test_a_sweep_file_that_says_nothing_or_half_is_refused_in_one_line(tmp_path, text, message):
    with pytest.raises(SpecError, match=message) as caught:
        build_manifest(compose_sweep([written(tmp_path, text)]))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize(
    "text",
    [
        "mine: 5\nsweep: {axes: {seed: 'range(${mine})'}}\n",
        "mine: {n: 5}\nsweep: {axes: {seed: 'range(${mine.n})'}}\n",
        "_a: &a {lr: 1e-4}\nx-b: 3\noptim: *a\nsweep: {axes: {seed: range(5)}}\n",
        "\ufeffsweep: {axes: {seed: range(5)}}\n",
    ],
)
def test_a_key_of_ones_own_that_something_refers_to_is_kept(tmp_path, text):
    assert len(build_manifest(compose_sweep([written(tmp_path, text)]))) == 5
    words = ["sweep=noop", "+sweep.mine=3", "seed=${sweep.mine}"]
    assert build_manifest(compose_sweep(words)).seeds.tolist() == [3]


def test_every_option_that_is_shipped_is_one_that_is_read():
    folder = Path(__file__).parents[3] / "sweeps" / "conf"
    for file in (folder / "cluster").glob("*.yaml"):
        assert set(yaml.safe_load(file.read_text())) - {"defaults"} <= CLUSTER_KEYS, file.name
    assert set(yaml.safe_load((folder / "run.yaml").read_text())["budget"]) == OPTIONS["budget"]
    retries = yaml.safe_load((folder / "cluster" / "laptop.yaml").read_text())["retries"]
    assert set(retries) == OPTIONS["cluster.retries"]


NUMBERS = {"TASK": "7", "LR": "1e-4", "STEPS": "[0, 2]", "YES": "true"}


@pytest.mark.parametrize(
    ("words", "key", "values"),
    [
        (["seed=${oc.env:TASK}"], "seed", [7]),
        (["seed=1,${oc.env:TASK}"], "seed", [1, 7]),
        (["seed=${oc.decode:${oc.env:TASK}}"], "seed", [7]),
        (["seed='${oc.decode:${oc.env:TASK}}'"], "seed", [7]),
        (["seed=${oc.env:UNSET,3}"], "seed", [3]),
        (["seed=${oc.decode:${oc.env:UNSET,3}}"], "seed", [3]),
        (["steps=${oc.env:TASK}"], "steps", [7]),
        (["optim.lr=${oc.env:LR}"], "optim.lr", [1e-4]),
        (["optim.lr=${oc.env:LR},0.5"], "optim.lr", [1e-4, 0.5]),
        (["eval.steps=${oc.env:STEPS}"], "eval.steps", [(0, 2)]),
        (["eval.greedy=${oc.env:YES}"], "eval.greedy", [True]),
        (["eval.system=${oc.env:TASK}"], "eval.system", ["7"]),
        (["seed=${steps}", "steps=4"], "seed", [4]),
    ],
)
def test_the_environment_gives_numbers_where_a_key_holds_numbers(monkeypatch, words, key, values):
    for name, value in NUMBERS.items():
        monkeypatch.setenv(name, value)
    manifest = build_manifest(compose_sweep(["example=text", *words]))
    group, _, name = key.partition(".")
    specs = [manifest.spec(i) for i in range(len(manifest))]
    assert [getattr(getattr(s, group), name) if name else getattr(s, group) for s in specs] == values


@pytest.mark.parametrize(
    "text",
    [
        "sweep: {axes: {seed: '${oc.env:TASK}'}}\n",
        "sweep: {axes: {seed: ['${oc.env:TASK}']}}\n",
        "sweep: {axes: {seed: {values: ['${oc.env:TASK}']}}}\n",
        "sweep: {n: '${oc.env:TASK}', axes: {seed: '${sweep.n}'}}\n",
        "sweep: {axes: {seed: ['${oc.decode:${oc.env:TASK}}']}}\n",
        "seed: ${oc.env:TASK}\nsweep: {about: no axis}\n",
    ],
)
def test_the_environment_gives_numbers_to_sweep_files_too(tmp_path, monkeypatch, text):
    monkeypatch.setenv("TASK", "7")
    assert build_manifest(compose_sweep([written(tmp_path, text), "example=text"])).seeds.tolist() == [7]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("seed=${oc.env:WORD}", "seed='hello': must be a whole number"),
        ("seed=${oc.env:UNSET}", r"\$\{oc\.env:UNSET\}: the variable is not set"),
        ("seed=${oc.decode:${oc.env:API_TOKEN}}", "would write a secret"),
        ("seed=${oc.env:${oc.env:WORD}}", "must be written out"),
        ("seed=${seed}", "in a circle"),
        ("seed=${oc.nothing:1}", "Unsupported interpolation"),
    ],
)
def test_what_the_environment_cannot_give_is_refused_in_one_line(monkeypatch, word, message):
    monkeypatch.setenv("WORD", "hello")
    monkeypatch.setenv("API_TOKEN", "7")
    with pytest.raises(SpecError, match=message) as caught:
        build_manifest(compose_sweep(["example=text", word]))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("written_as", "values"),
    [
        ("range(0.1,0.6,0.1)", [0.1, 0.2, 0.3, 0.4, 0.5]),
        ("range(0.6,0.1,-0.1)", [0.6, 0.5, 0.4, 0.3, 0.2]),
        ("range(1e-4,5e-4,1e-4)", [1e-4, 2e-4, 3e-4, 4e-4]),
        ("range(1,2.2,0.4)", [1.0, 1.4, 1.8]),
    ],
)
def test_a_range_of_fractions_holds_the_numbers_that_one_would_write(tmp_path, written_as, values):
    composed = compose_sweep([f"optim.lr={written_as}"])
    assert [list(a.values) for a in composed.grid.axes if a.key == "optim.lr"] == [values]
    composed = compose_sweep([written(tmp_path, f"sweep: {{axes: {{optim.lr: '{written_as}'}}}}\n")])
    assert [list(a.values) for a in composed.grid.axes if a.key == "optim.lr"] == [values]
