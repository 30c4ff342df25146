import subprocess
import sys

import pytest

from sweeps.compose import compose_sweep
from sweeps.grid.grid import axis, product
from sweeps.manifest.build import build_manifest
from sweeps.spec import SpecError, known_keys
from tests.sweeps.shipped import shipped


def axes_of(*words):
    return {a.key: list(a.values) for a in build_manifest(compose_sweep(words)).axes}


def test_every_shipped_sweep_composes():
    from importlib import resources

    names = [f.name.removesuffix(".yaml") for f in (resources.files("sweeps.conf") / "sweep").iterdir()]
    assert {"quickstart", "noop", "paper"} <= set(names)
    for name in names:
        composed = shipped(name)
        assert composed.name == name
        assert composed.grid.key_names()


def test_one_value_replaces_an_axis_and_several_replace_or_append_it():
    words = ["sweep=noop", "sweep.n=4", "optim.lr=1e-4,2e-4", "model=tiny-64"]
    assert axes_of(*words) == {"seed": [0, 1, 2, 3], "optim.lr": [1e-4, 2e-4]}
    assert axes_of("sweep=noop", "seed=7") == {"seed": [7]}
    assert axes_of("sweep=noop", "seed=range(3)", "steps=1,2") == {"seed": [0, 1, 2], "steps": [1, 2]}


def test_overrides_use_the_grammar_of_hydra(prompts):
    words = ["sweep=noop", "seed=0", "example=file", f"example.path={prompts}"]
    assert axes_of(*words, "example.rows=[0],[1,2]")["example.rows"] == [[0], [1, 2]]
    assert axes_of(*words, "example.rows=range(3)")["example.rows"] == [0, 1, 2]
    glob = "schedule=glob(*,exclude=[wsd,rex,inverse_sqrt,infinite,power,onecycle,refined,autolrs])"
    assert axes_of("sweep=noop", "seed=0", glob)["schedule"] == [
        "constant",
        "cosine",
        "linear",
    ]
    assert axes_of("sweep=noop", "seed=range(0,10,5)", "optim.lr=choice(1,2)") == {
        "seed": [0, 5],
        "optim.lr": [1.0, 2.0],
    }


def test_a_key_outside_the_axes_reaches_every_option(tmp_path):
    composed = compose_sweep(["sweep=noop", "schedule=constant,linear", "schedule.warmup_steps=3", "seed=0"])
    manifest = build_manifest(composed)
    assert [manifest.spec(i).schedule.warmup_steps for i in range(2)] == [3, 3]


def test_free_parameters_of_an_own_trainer_are_passed_through():
    manifest = build_manifest(compose_sweep(["sweep=noop", "seed=0", "+trainer.params.sleep_s=0.5"]))
    assert manifest.spec(0).trainer.params == {"sleep_s": 0.5}
    manifest = build_manifest(compose_sweep(["sweep=noop", "seed=0", "trainer.params.k=1,2"]))
    assert [manifest.spec(i).trainer.params for i in range(2)] == [{"k": 1}, {"k": 2}]


def test_options_that_are_no_part_of_a_run_stay_outside():
    composed = compose_sweep(["sweep=noop", "sharing=off", "cluster.num_workers=3", "budget.usd=5"])
    assert composed.options["sharing"] is False
    assert composed.options["cluster"]["num_workers"] == 3
    assert composed.options["budget"]["usd"] == 5
    assert set(composed.base) >= {k.split(".")[0] for k in known_keys()}
    assert not {"sharing", "cluster", "budget"} & set(composed.base)


def test_a_sweep_file_is_named_by_its_path(sweep_file):
    path = sweep_file("axes:\n  schedule: [constant, wsd]\n  seed: range(2)", top="steps: 3\n")
    manifest = build_manifest(compose_sweep([f"sweep={path}", "example=text", "eval=none"]))
    assert (manifest.sweep, len(manifest), manifest.spec(0).steps) == ("mine", 4, 3)


def test_an_option_given_where_settings_belong_is_refused_with_the_line_to_write(sweep_file):
    path = sweep_file("axes: {seed: [1]}", top="schedule: wsd\n")
    with pytest.raises(SpecError, match=r"schedule='wsd': .*`defaults: \[override /schedule: wsd\]`"):
        compose_sweep([f"sweep={path}"])


def test_an_edited_sweep_file_is_read_again(sweep_file):
    for num in (2, 5):
        path = sweep_file(f"axes: {{seed: range({num})}}")
        assert len(build_manifest(compose_sweep([f"sweep={path}", "example=text", "eval=none"]))) == num


def test_a_folder_on_the_search_path_adds_options_and_sweeps(tmp_path):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "optim").mkdir()
    (tmp_path / "optim" / "slow.yaml").write_text("lr: 1e-9\n")
    (tmp_path / "sweep" / "ours.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /optim: slow\n  - override /example: text\n"
        "  - override /eval: none\nsweep:\n  axes: {seed: [1]}\n"
    )
    manifest = build_manifest(compose_sweep([f"hydra.searchpath=[file://{tmp_path}]", "sweep=ours"]))
    assert (manifest.sweep, manifest.spec(0).optim.lr) == ("ours", 1e-9)


def test_axes_may_be_built_in_python():
    grid = product(
        axis("schedule", ["constant", "wsd"]), axis("schedule.decay_fraction", [0.1], when="schedule=wsd")
    )
    manifest = build_manifest(compose_sweep(["example=text", "eval=none"], grid=grid))
    assert [manifest.axis_values(i)["schedule.decay_fraction"] for i in range(2)] == [None, 0.1]


def test_a_sweep_file_with_everything_in_it(sweep_file):
    path = sweep_file(
        """
        about: all of the language
        k: 2
        axes:
          schedule: [constant, wsd]
          schedule.decay_fraction: {values: [0.1, 0.2], when: schedule=wsd}
          seed: range(${sweep.k})
        concat:
          - axes: {optim.lr: [1e-4, 2e-4]}
          - axes: {optim.lr: [1e-3], objective.temperature: [0.3, 0.7]}
        exclude: [schedule=wsd optim.lr=1e-3]
        set:
          - {when: optim.lr=1e-3, sampling.max_new_tokens: 5, engine: gpu}
        """,
        top="defaults: [override /example: text, override /eval: none]\nobjective: {temperature: 0.9}\n",
    )
    manifest = build_manifest(compose_sweep([f"sweep={path}"]))
    # 3 schedules × (2 + 2) rates less 2 × 2 excluded, × 2 seeds
    assert len(manifest) == (3 * 4 - 2 * 2) * 2
    for i in range(len(manifest)):
        spec, row = manifest.spec(i), manifest.axis_values(i)
        assert row["objective.temperature"] == spec.objective.temperature
        assert spec.objective.temperature == 0.9 or spec.optim.lr == 1e-3
        assert (
            (spec.sampling.max_new_tokens == 5)
            == (spec.optim.lr == 1e-3)
            == (spec.engine.precision == "bf16")
        )


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("optim.lrr=1", r'unknown key \'optim.lrr\' \(did you mean "optim.lr"'),
        ("modle=tiny-64", 'did you mean "model"'),
        ("model=tiny-65", r'model=tiny-65: unknown model \(did you mean .*"tiny-64".*choose one of'),
        ("sweep=quikstart", 'did you mean "quickstart"'),
        ("optim.lr=", "optim.lr=.: is empty"),
        ("seed=range(5,5)", "axis seed: .* is empty"),
        ("optim.lr=abc", "optim.lr='abc': must be a number, not str"),
        ("optim.lr=1e-4,abc", "optim.lr='abc'"),
        ("seed=1.5", "seed=1.5: must be a whole number"),
        ("seed=range(1000000000)", "up to 1,000,000,000 runs"),
        ("cluster.num_workrs=3", 'did you mean "cluster.num_workers"'),
        ("cluster.num_workers=1,2", "not part of a run"),
        ("cluster=laptop,slurm", "not part of a run"),
        ("~optim.lr", "nothing can be removed"),
        ("seed=shuffle(range(4))", "sweep.subset"),
        ("model=glob(nothing*)", "matches no option"),
        ("sharing=maybe", "must be on or off"),
        ("a b", "is not an override"),
        ("sweep=missing.yaml", "no such file"),
    ],
)
def test_a_wrong_word_is_refused_with_value_rule_and_fix(word, message):
    words = [word] if word.startswith("sweep=") else ["sweep=noop", word]
    with pytest.raises(SpecError, match=message) as caught:
        compose_sweep(words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("node", "line", "message"),
    [
        ("axes:\n  optim.lrr: [1]", 4, 'unknown key .*did you mean "optim.lr"'),
        ("axes:\n  modle: [tiny-64]", 4, 'did you mean "model"'),
        ("axes:\n  model: [tiny-65]", 4, "unknown model"),
        ("axes:\n  seed: []", 4, "is empty"),
        ("axes:\n  optim.lr: [fast]", 4, "must be a number"),
        ("axes:\n  optim.lr: {vals: [1]}", 4, "give values, and when"),
        ("exlude: [seed=1]\naxes: {seed: [1]}", 3, 'did you mean "exclude"'),
        ("axes: {seed: [1, 2]}\nexclude:\n  - seed=1\n  - seed == 2 and True", 6, "is not a filter"),
        ("axes: {seed: [1, 2]}\nexclude:\n  - seed=1\n  - seed<9", 6, "leaves no run"),
        ("axes:\n  seed: [1]\n  optim.lr: {values: [1.0], when: shedule=wsd}", 5, "unknown axis 'shedule'"),
        ("axes: {seed: [1, 2], optim.lr: [1.0]}\nzip: [[seed, optim.lr]]", 4, "equally many"),
        (
            "concat:\n  - axes: {trainer.params.a: [1]}\n  - axes: {trainer.params.a: [x]}",
            None,
            "but str in sub-grid 2",
        ),
        ("axes: {seed: [1]}\nset:\n  - {when: seed=1, optim.lrr: 3}", 5, "unknown key"),
        ("axes: {seed: [1]}\nsubset: {runs: many}", 4, "whole numbers"),
        ("axes: {seed: 'range(${sweep.nn})'}", None, "sweep.nn"),
    ],
)
def test_a_mistake_in_a_sweep_file_names_the_file_and_line(sweep_file, node, line, message):
    path = sweep_file(node)
    with pytest.raises(SpecError, match=message) as caught:
        build_manifest(compose_sweep([f"sweep={path}", "example=text", "eval=none"]))
    if line is not None:
        assert str(caught.value).startswith(f"mine.yaml line {line}: ")


def test_a_file_that_is_not_yaml_or_has_no_sweep_is_refused(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("sweep: [1\n")
    with pytest.raises(SpecError, match=r"x\.yaml"):
        compose_sweep([f"sweep={path}"])
    path.write_text("axes: {seed: [1]}\n")
    with pytest.raises(SpecError, match="no sweep: node"):
        compose_sweep([f"sweep={path}"])


def test_a_missing_package_line_is_named(tmp_path):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "ours.yaml").write_text("sweep: {axes: {seed: [1]}}\n")
    with pytest.raises(SpecError, match="@package _global_"):
        compose_sweep([f"hydra.searchpath=[file://{tmp_path}]", "sweep=ours"])


def test_a_name_that_leaves_the_output_folder_is_refused():
    with pytest.raises(SpecError, match="it names a directory"):
        compose_sweep(["sweep=noop", "sweep.name=../x"])


def test_quoted_values_stay_text_and_lists_stay_one_value():
    composed = compose_sweep(["sweep=noop", "trainer.params.k='1,2','3'", "seed=0"])
    assert [a.values for a in composed.grid.axes] == [(0,), ("1,2", "3")]


def test_references_in_a_circle_are_refused(sweep_file):
    path = sweep_file("a: ${sweep.b}\nb: ${sweep.a}\naxes: {seed: 'range(${sweep.a})'}")
    with pytest.raises(SpecError, match="circle"):
        compose_sweep([f"sweep={path}"])


@pytest.mark.parametrize("flags", [["--cfg", "job"], ["--info", "defaults"], ["--help"]])
def test_habits_of_hydra_work_on_the_module(flags):
    done = subprocess.run(
        [sys.executable, "-m", "sweeps.compose", "sweep=noop", *flags],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "noop" in done.stdout or "== Configuration groups ==" in done.stdout


def test_a_file_whose_aliases_stand_for_a_billion_values_is_refused_at_once(tmp_path):
    lines = ["x0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"x{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    path = tmp_path / "bomb.yaml"
    path.write_text("\n".join([*lines, "sweep: {axes: {seed: [0]}}"]))
    with pytest.raises(SpecError, match="aliases stand for more than"):
        compose_sweep([f"sweep={path}"])


def test_files_of_one_name_follow_each_other_in_a_process(tmp_path):
    for number in range(4):
        folder = tmp_path / str(number)
        folder.mkdir()
        file = folder / "mine.yaml"
        file.write_text(f"# @package _global_\nsweep: {{about: x, axes: {{seed: [{number}]}}}}\n")
        composition = compose_sweep([f"sweep={file}"])
    assert composition.name == "mine"
    assert build_manifest(composition).spec(0).seed == 3
