"""Whether the code that runs were asked for is the code that would run now."""

from __future__ import annotations

import pytest

from orchestrator.trust.code_files import require_same_code
from orchestrator.trust.consent import consent_of
from orchestrator.trust.needs import code_of
from orchestrator.trust.targets import require_targets
from orchestrator.trust.trusted import Need
from sweeps.compose import compose_sweep
from sweeps.manifest.build import build_manifest
from sweeps.spec.errors import UserError


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "train.py").write_text("def train(params, seed): return 1.0\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sweep_of(target="train:train"):
    return build_manifest(compose_sweep(["sweep=noop", "trainer=function", f"trainer.target={target}"]))


def test_a_file_that_is_as_it_was_passes_and_an_edited_one_is_refused(project):
    manifest = sweep_of()
    require_same_code(manifest)
    (project / "train.py").write_text("def train(params, seed): return 2.0\n")
    with pytest.raises(UserError, match=r"train\.py has changed since these runs were asked for; launch"):
        require_same_code(manifest)
    (project / "train.py").unlink()
    with pytest.raises(UserError, match="its file is no longer in"):
        require_same_code(manifest)


def test_a_function_inside_the_sweep_directory_is_not_run(project):
    manifest = sweep_of()
    require_same_code(manifest, project / "outputs")
    with pytest.raises(UserError, match="lies inside the sweep directory"):
        require_same_code(manifest, project)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def trian(seed): ...\n", "has no 'train' \\(did you mean \"trian\""),
        ("def train(sed): ...\n", "takes 'sed' \\(did you mean \"seed\""),
        ("def train(seed, *, lr): ...\n", "takes 'lr'"),
        ("class train: ...\n", "is a class; name it with a dot"),
        ("async def train(): ...\n", "is a coroutine"),
        ("def train(:\n", "cannot be read"),
    ],
)
def test_a_function_that_cannot_be_called_is_refused_before_anything_is_imported(project, text, message):
    (project / "train.py").write_text(text)
    with pytest.raises(UserError, match=message):
        require_targets(sweep_of())


@pytest.mark.parametrize(
    "text",
    [
        "def train(seed, lr=1): ...\n",
        "from functools import partial\ndef f(seed, lr): ...\ntrain = partial(f, lr=1)\n",
        "from elsewhere import train\n",
        "from elsewhere import *\n",
        "if True:\n    def train(): ...\n",
    ],
)
def test_what_a_files_text_does_not_tell_is_left_to_the_worker(project, text):
    (project / "train.py").write_text(text)
    require_targets(sweep_of())


def test_a_function_needs_the_users_word_wherever_it_lies(project):
    assert list(code_of(sweep_of())) == [Need("target", "train:train")]
    ours = sweep_of("trainers.metrics:metrics_of")
    assert list(code_of(ours)) == [Need("target", "trainers.metrics:metrics_of")]
    need = Need("target", "train:train")
    assert consent_of(allowed=["train"]).covers(need)
    assert consent_of(["trainer.target=train:train"]).covers(need)
    assert not consent_of(allowed=["trai"]).covers(need)
    assert not consent_of(["trainer=function"]).covers(need)
