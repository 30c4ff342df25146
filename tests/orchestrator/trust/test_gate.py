"""What this user launched or granted may run; what a directory or a file says for itself may not."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli import main
from orchestrator.store import digest_writer
from orchestrator.store.layout import Layout
from orchestrator.trust.consent import consent_of
from orchestrator.trust.gate import permit, stored_id
from orchestrator.trust.trusted import trusted_file
from sweeps.compose import compose_sweep
from sweeps.manifest.build import build_manifest
from sweeps.manifest.manifest_file import read_manifest, write_manifest
from sweeps.spec.errors import UserError

MODULE = """
from pathlib import Path
from trainers.noop import Noop

Path(__file__).with_name("imported").write_text("")

class Loop(Noop): ...
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A configuration folder of this test's own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config"


@pytest.fixture
def project(tmp_path, monkeypatch, home):
    """A folder with a trainer that leaves a mark when it is imported, and a file that names it."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "mine.py").write_text(MODULE)
    (project / "loops.yaml").write_text(
        "# @package _global_\ntrainer: {_target_: mine.Loop}\nsweep: {axes: {seed: range(2)}}\n"
    )
    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield project
    sys.modules.pop("mine", None)


@pytest.fixture
def stranger(project, monkeypatch):
    """A directory that somebody else launched, with one run left; this user knows nothing of it."""
    launched = ("launch", "sweep=loops.yaml", "--dir", "theirs", "--allow-target", "mine", "--pool", "inline")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(project / "their config"))
    assert main([*launched, "--json"]) == 0
    monkeypatch.setenv("XDG_CONFIG_HOME", str(project.parent / "config"))
    (project / "imported").unlink()
    del sys.modules["mine"]
    return project / "theirs"


def sweep_of(*words):
    return build_manifest(compose_sweep(words))


def asked(*words, **more):
    return permit(Layout(Path("d")), sweep_of(*words), consent_of(**more))


def test_a_file_may_name_our_own_trainers_only(project):
    asked("sweep=noop")
    with pytest.raises(UserError, match="add --allow-target mine"):
        asked("sweep=loops.yaml")


@pytest.mark.parametrize(
    "more",
    [
        {"allowed": ["mine"]},
        {"allowed": ["mine.Loop"]},
        {"environment": {"EMSWEEP_ALLOW_TARGETS": "others, mine"}},
        {"trust": True},
        {"words": ["trainer.target=mine.Loop"]},
        {"words": ["trainer._target_=other.A,mine.Loop"]},
    ],
)
def test_whoever_launches_may_allow_a_package(project, more):
    asked("sweep=loops.yaml", **more)


def test_a_package_is_no_prefix_of_a_longer_name(project):
    with pytest.raises(UserError, match="allow-target"):
        asked("sweep=loops.yaml", allowed=["min", "mine.Loo"])


@pytest.mark.parametrize("verb", ["resume", "rerun", "replay"])
def test_a_strangers_trainer_is_not_imported_by_any_verb_that_runs(stranger, capsys, verb):
    run_id = read_manifest(stranger / "manifest.parquet").run_ids[0]
    more = {"resume": (), "rerun": ("--incomplete",), "replay": (run_id,)}[verb]
    before = contents(stranger)
    assert main([verb, str(stranger), *more]) == 2
    assert "add --allow-target mine" in capsys.readouterr().err
    assert contents(stranger) == before, "a refused directory is left as it was"
    assert not (stranger.parent / "imported").exists()
    assert main([verb, str(stranger), *more, "--allow-target", "mine"]) == 0


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_strangers_directory_can_be_read(stranger, capsys):
    for words in (["status"], ["verify"], ["table"], ["report"], ["log"]):
        assert main([words[0], str(stranger), *words[1:]]) == 0
    assert not (stranger.parent / "imported").exists()


def test_what_was_launched_or_granted_once_resumes_wherever_it_moves(project):
    words = ("launch", "sweep=loops.yaml", "--dir", "d", "--pool", "inline", "--json")
    assert main([*words, "--allow-target", "mine"]) == 0
    shutil.move(project / "d", project / "moved")
    assert main(["resume", "moved", "--json"]) == 0
    assert main(["launch", "sweep=loops.yaml", "--dir", "moved", "--json"]) == 0, "no flag for the same runs"


def test_a_grant_is_remembered(stranger):
    assert main(["resume", str(stranger), "--allow-target", "mine", "--json"]) == 0
    assert main(["resume", str(stranger), "--json"]) == 0


def test_a_changed_manifest_is_a_strangers_even_under_a_known_id(project, capsys):
    words = ("launch", "sweep=loops.yaml", "--dir", "d", "--pool", "inline", "--json")
    assert main([*words, "--allow-target", "mine"]) == 0
    manifest = read_manifest(project / "d" / "manifest.parquet")
    text = manifest.groups["trainer"][0].replace('"params":{}', '"params":{"steps":7}')
    assert text != manifest.groups["trainer"][0]
    changed = dataclasses.replace(manifest, groups={**manifest.groups, "trainer": (text,)})
    write_manifest(changed, project / "d" / "manifest.parquet")
    assert main(["resume", "d"]) == 2
    assert "emsweep repair d" in capsys.readouterr().err
    digest_writer.record(Layout(project / "d"), project / "d" / "manifest.parquet")  # as its author would
    assert main(["resume", "d"]) == 2
    capsys.readouterr()


def test_grants_are_kept_outside_the_directory_for_this_user_alone(project, home):
    asked("sweep=noop", launched=True)
    file = trusted_file()
    assert file == home / "emsweep" / "trusted.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    file.write_text('{"sweeps": 5}')
    with pytest.raises(UserError, match=r"trusted.json: is damaged.*delete it"):
        asked("sweep=noop", launched=True)


def test_without_a_home_everything_goes_by_flag(stranger, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", "/proc/nowhere")
    assert main(["resume", str(stranger), "--allow-target", "mine", "--json"]) == 0
    assert main(["resume", str(stranger), "--json"]) == 2
    assert main(["launch", "sweep=noop", "sweep.n=1", "--dir", "own", "--pool", "inline", "--json"]) == 0
    assert main(["resume", "own", "--json"]) == 0, "our own trainers need no permission"


@pytest.mark.parametrize("verb", ["resume", "launch"])
def test_remote_code_that_a_file_or_directory_asks_for_needs_consent(project, capsys, verb):
    (project / "code.yaml").write_text(
        "# @package _global_\nmodel: {trust_remote_code: true}\nsweep: {axes: {seed: range(1)}}\n"
    )
    words = ["sweep=code.yaml", "trainer=noop"]
    manifest = sweep_of(*words)
    assert manifest.group("model", 0).trust_remote_code
    if verb == "launch":
        assert main(["launch", *words, "--dir", "d", "--pool", "inline"]) == 2
        assert main(["launch", *words, "cluster=slurm", "--dry-run"]) == 2
        assert main(["launch", *words, "model.trust_remote_code=true", "--dir", "d", "--pool", "inline"]) == 0
    else:
        with pytest.raises(UserError, match="--trust"):
            permit(Layout(project / "d"), manifest, consent_of())
        permit(Layout(project / "d"), manifest, consent_of(trust=True))
    assert (
        verb == "resume"
        or "add --trust, or to a launch model.trust_remote_code=true" in capsys.readouterr().err
    )


@pytest.mark.parametrize("key", ["address", "node_spools"])
def test_a_file_sends_work_and_files_nowhere(project, capsys, key):
    (project / "far.yaml").write_text(
        f"# @package _global_\ncluster: {{{key}: 'evil:1'}}\nsweep: {{axes: {{seed: range(1)}}}}\n"
    )
    words = ("launch", "sweep=far.yaml", "trainer=noop", "--dir", "d")
    assert main([*words]) == 2
    assert f"cluster.{key}='evil:1': a file sends work or files elsewhere" in capsys.readouterr().err
    consent = consent_of([f"cluster.{key}=evil:1"])
    assert all(consent.covers(need) for need in consent.named)


@pytest.mark.parametrize(
    "name", ["spool", "logs", "driver.lock", "status.json", "control", "parts", "state.sqlite"]
)
def test_a_link_out_of_a_strangers_directory_is_not_written_through(project, capsys, tmp_path, name):
    assert main(["launch", "sweep=noop", "sweep.n=2", "--dir", "d", "--pool", "inline", "--json"]) == 0
    shutil.rmtree(os.environ["XDG_CONFIG_HOME"])
    outside = tmp_path / "outside"
    outside.mkdir()
    link = project / "d" / name
    if link.is_dir():
        shutil.rmtree(link)
    else:
        link.unlink(missing_ok=True)
        outside = outside / "file"
        outside.write_text("as it was")
    link.symlink_to(outside)
    assert main(["resume", "d"]) == 2
    assert "leads out of it; remove the link, or add --trust" in capsys.readouterr().err
    assert main(["cancel", "d"]) == 2
    assert list(outside.iterdir()) == [] if outside.is_dir() else outside.read_text() == "as it was"


def test_run_ids_that_would_name_files_elsewhere_are_refused(project):
    manifest = sweep_of("sweep=noop", "sweep.n=1")
    with pytest.raises(UserError, match="would name files elsewhere"):
        permit(Layout(project / "d"), dataclasses.replace(manifest, run_ids=["../../x"]), consent_of())


class Marking:
    """A pickle that leaves a mark when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_a_strangers_pickle_is_not_loaded(project, capsys):
    from orchestrator.hydra_launcher.jobs import TARGET
    from orchestrator.trust.needs import PICKLE

    target = f"trainer.target={TARGET}"
    manifest = sweep_of("sweep=noop", "sweep.n=1", target)
    layout, mark = Layout(project / "d"), project / "loaded"
    assert main(["launch", "sweep=noop", "sweep.n=1", target, "--dir", "d", "--pool", "inline"]) == 1
    (layout.root / PICKLE).parent.mkdir()
    (layout.root / PICKLE).write_bytes(pickle.dumps(Marking(mark)))
    for verb in (["rerun", "d", "--failed"], ["resume", "d"]):
        assert main([*verb, "--pool", "inline"]) == 2, "launched by this user, but not with this pickle"
        assert "pickled, that this user has not written" in capsys.readouterr().err
    assert not mark.exists()
    permit(layout, manifest, consent_of(allowed=["orchestrator"]))
    main(["rerun", "d", "--failed", "--pool", "inline"])
    assert mark.exists(), "granted"


def test_the_id_stays_while_a_sweep_grows_and_is_not_taken_over_from_a_stranger(project):
    words = ("launch", "sweep=noop", "--dir", "d", "--pool", "inline", "--json")
    assert main([*words, "sweep.n=2"]) == 0
    first = stored_id(Layout(Path("d")))
    assert main([*words, "sweep.n=3"]) == 0
    assert stored_id(Layout(Path("d"))) == first
    shutil.rmtree(os.environ["XDG_CONFIG_HOME"])
    assert main([*words, "sweep.n=4"]) == 0
    assert stored_id(Layout(Path("d"))) not in ("", first)


def test_a_folder_of_our_packages_name_in_the_current_folder_replaces_nothing(tmp_path):
    for name in ("trainers", "sweeps", "orchestrator"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')")
    words = ("launch", "sweep=noop", "sweep.n=2", "--pool", "local", "--dir", "d", "--json")
    root = Path(__file__).parents[3]
    start = f"import sys; sys.path.insert(0, {str(root)!r}); from orchestrator.cli import main; "
    start += f"main({list(words)})"
    done = subprocess.run(
        [sys.executable, "-P", "-c", start], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert json.loads(done.stdout)["committed"] == 2, done.stderr
    assert not (tmp_path / "imported").exists()
