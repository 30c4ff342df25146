"""Which commands run without this user's word, and which word allows which."""

from __future__ import annotations

import shutil

import pytest

from orchestrator.store.layout import Layout
from orchestrator.trust.consent import consent_of
from orchestrator.trust.gate import permit
from orchestrator.trust.needs import code_of
from orchestrator.trust.shipped_scripts import EXAMPLES, is_shipped
from orchestrator.trust.trusted import Need
from sweeps.compose import compose_sweep
from sweeps.manifest.build import build_manifest
from sweeps.manifest.code_files import resolve_trainer
from sweeps.spec import TrainerSpec
from sweeps.spec.command_words import COMMAND
from sweeps.spec.errors import UserError

SCRIPT = "command_train.py"


def command(*words, folder=EXAMPLES):
    return TrainerSpec(target=COMMAND, command=words, folder=str(folder))


def test_a_script_that_ships_runs_without_a_word():
    assert is_shipped(command("python", SCRIPT, "--lr", "{optim.lr}"))
    assert is_shipped(command("python", str(EXAMPLES / SCRIPT)))
    manifest = build_manifest(compose_sweep([f"sweep={EXAMPLES / 'command.yaml'}"]))
    assert list(code_of(manifest)) == []


@pytest.fixture
def examples(tmp_path):
    """A checkout of its own with links and folders in its examples."""
    made = tmp_path / "checkout" / "tests" / "examples"
    (made / "inside").mkdir(parents=True)
    (tmp_path / "checkout" / "pyproject.toml").touch()
    for place in (made / "good.py", made / "inside" / "deep.py", tmp_path / "evil.py"):
        place.write_text("print(1)")
    (made / "link.py").symlink_to(tmp_path / "evil.py")
    (made / "within.py").symlink_to(made / "good.py")
    (tmp_path / "way").symlink_to(made)
    return made


@pytest.mark.parametrize(
    "words",
    [
        ("python", "-c", "print(1)", "good.py"),
        ("python", "-m", "good.py"),
        ("python", "-X", "good.py"),
        ("python3", "good.py"),
        ("./python", "good.py"),
        ("env", "python", "good.py"),
        ("PYTHONSTARTUP=evil.py", "python", "good.py"),
        ("env", "PYTHONPATH=/tmp", "python", "good.py"),
        ("sh", "good.py"),
        ("good.py",),
        ("python",),
        ("python", "link.py"),
        ("python", "within.py"),
        ("python", "inside/deep.py"),
        ("python", "inside"),
        ("python", "nothing.py", "good.py"),
        ("python", "../examples/good.py"),
        ("python", "inside/../good.py"),
        ("python", "{seed}.py"),
        ("python", "{folder}/good.py"),
        ("python", "../../../evil.py"),
    ],
)
def test_nothing_but_a_plain_script_of_ours_passes(examples, words):
    assert is_shipped(command("python", "good.py", folder=examples), examples)
    assert not is_shipped(command(*words, folder=examples), examples)


def test_a_script_of_that_name_elsewhere_and_one_behind_a_link_do_not_pass(examples, tmp_path):
    shutil.copy(examples / "good.py", tmp_path / "good.py")
    for folder in (tmp_path, tmp_path / "way", examples / "inside" / ".."):
        assert not is_shipped(command("python", "good.py", folder=folder), examples)
        assert not is_shipped(command("python", str(examples / "good.py"), folder=folder), examples)
    (examples.parents[1] / "pyproject.toml").unlink()  # an installed package has no examples of ours
    assert not is_shipped(command("python", "good.py", folder=examples), examples)


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("print(1)")
    (tmp_path / "run.sh").write_text("true")
    return tmp_path


def need_of(*words):
    config = {"target": COMMAND, "command": list(words)}
    manifest = build_manifest(
        compose_sweep(["trainer=command", f"trainer.command={list(words)!r}", "eval=none", "example=text"])
    )
    assert resolve_trainer(config)["folder"]
    (need,) = code_of(manifest)
    assert need.key == "command"
    return need


@pytest.mark.parametrize(
    ("words", "allowed", "covered"),
    [
        (("python", "train.py", "--lr", "1"), "train.py", True),
        (("python", "train.py"), "./train.py", True),
        (("python", "train.py"), "python", True),
        (("python", "train.py"), "rain.py", False),
        (("python", "train.py"), "train", False),
        (("python", "-c", "evil()", "train.py"), "train.py", False),
        (("python", "-c", "evil()", "train.py"), "python", True),
        (("torchrun", "--nproc", "2", "train.py"), "train.py", False),
        (("torchrun", "--nproc", "2", "train.py"), "torchrun", True),
        (("./run.sh", "train.py"), "run.sh", True),
        (("./run.sh", "train.py"), "train.py", False),
        (("bash", "-c", "rm -r x"), "bash", True),
        (("bash", "-c", "rm -r x"), "rm", False),
        (("bash", "-c", "rm -r x"), "-c", False),
    ],
)
def test_a_word_allows_a_program_or_the_script_that_it_plainly_runs(project, words, allowed, covered):
    need = need_of(*words)
    assert consent_of(allowed=[allowed]).covers(need) is covered
    if words[1:2] == ("train.py",) and words[0] == "python":
        assert consent_of(allowed=[str(project / "train.py")]).covers(need)
        assert not consent_of(allowed=[str(project / "elsewhere" / "train.py")]).covers(need)


def test_a_command_on_the_command_line_is_this_users_word_unless_it_refers_to_a_file(project):
    need = need_of("python", "train.py")
    assert consent_of(["trainer.command=[python,train.py]"]).covers(need)
    assert not consent_of(["trainer.command=[python,'${x}']"]).covers(need)
    assert not consent_of(["trainer=command", "trainer.command_x=[a]"]).covers(need)


def test_the_gate_says_what_would_run_and_which_word_allows_it(project):
    manifest = build_manifest(
        compose_sweep(["trainer=command", "trainer.command=[python,train.py]", "eval=none", "example=text"])
    )
    layout = Layout(project / "out")
    with pytest.raises(
        UserError, match=r"runs 'python .*/train\.py|runs python .*/train\.py.*--allow-target train\.py"
    ):
        permit(layout, manifest, consent_of())
    assert permit(layout, manifest, consent_of(allowed=["train.py"], launched=True))
    assert Need("command", f"python {project / 'train.py'}") in set(code_of(manifest))


def test_a_link_among_the_folders_of_commands_is_refused(project):
    layout = Layout(project / "out")
    (layout.root / "work").mkdir(parents=True)
    (layout.root / "work" / "a").symlink_to("/tmp")
    manifest = build_manifest(compose_sweep(["sweep=noop", "sweep.n=1"]))
    with pytest.raises(UserError, match="leads out of it"):
        permit(layout, manifest, consent_of())
