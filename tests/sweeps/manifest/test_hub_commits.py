"""The commit of a hub model is frozen at the first launch; the cache here is a real folder."""

import dataclasses

import pytest

from sweeps.compose import compose_sweep
from sweeps.grid.grid import axis, product
from sweeps.manifest.build import build_manifest
from sweeps.manifest.hf_cache import resolve_commit
from sweeps.manifest.hub_commits import pin_commits
from sweeps.manifest.manifest_file import read_manifest, write_manifest
from sweeps.spec import SpecError


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Points a branch of `org/name` in the cache at a commit."""
    from huggingface_hub import constants

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def point(commit, branch="main"):
        folder = tmp_path / "hub" / "models--org--name"
        (folder / "refs").mkdir(parents=True, exist_ok=True)
        (folder / "refs" / branch).write_text(commit)
        snapshot_dir = folder / "snapshots" / commit
        snapshot_dir.mkdir(parents=True, exist_ok=True)
        for name in ("config.json", "tokenizer.json", "model.safetensors"):
            (snapshot_dir / name).write_text("{}")

    return point


@pytest.fixture(scope="module")
def composed():
    return compose_sweep(["model=hf", "model.path=org/name", "example=text", "eval=none"])


@pytest.fixture
def build(composed):
    return lambda *axes: build_manifest(dataclasses.replace(composed, grid=product(*axes)))


def test_the_first_launch_freezes_the_commit_without_touching_the_identity(hub, build, tmp_path):
    hub("a" * 40)
    asked = build(axis("seed", [0, 1]))
    pinned = pin_commits(asked, None)
    assert {pinned.spec(i).model.commit for i in range(2)} == {"a" * 40}
    assert asked.spec(0).model.commit is None
    assert pinned.run_ids == asked.run_ids
    write_manifest(pinned, tmp_path / "manifest.parquet")
    read = read_manifest(tmp_path / "manifest.parquet")
    assert read.spec(1).model == pinned.spec(1).model
    assert pin_commits(asked, read).digest == read.digest


def test_a_branch_that_moved_is_refused_and_the_message_says_how_to_go_on(hub, build):
    hub("a" * 40)
    launched = pin_commits(build(axis("seed", [0])), None)
    hub("b" * 40)
    more = build(axis("seed", [0, 1]))
    with pytest.raises(SpecError, match=r"org/name at main: is commit b{12} now, .* with a{12}; .*resume"):
        pin_commits(more, launched)
    assert pin_commits(more, None).spec(0).model.commit == "b" * 40


def test_what_was_frozen_stays_when_the_cache_is_gone(hub, build, tmp_path, monkeypatch):
    hub("a" * 40)
    launched = pin_commits(build(axis("seed", [0])), None)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty"))
    assert pin_commits(build(axis("seed", [0])), launched).spec(0).model.commit == "a" * 40
    assert pin_commits(build(axis("seed", [0])), None).spec(0).model.commit is None


def test_each_revision_has_its_own_commit_and_a_new_one_may_join(hub, build):
    hub("a" * 40)
    launched = pin_commits(build(axis("model.revision", ["main"])), None)
    hub("b" * 40, branch="v2")
    both = pin_commits(build(axis("model.revision", ["main", "v2"])), launched)
    commits = {both.spec(i).model.revision: both.spec(i).model.commit for i in range(2)}
    assert commits == {"main": "a" * 40, "v2": "b" * 40}


def test_local_models_are_left_alone():
    manifest = build_manifest(compose_sweep(["seed=0,1"]))
    assert pin_commits(manifest, None) is manifest


def test_a_revision_that_is_a_commit_stands_for_itself(hub):
    assert resolve_commit("org/name", "c" * 40) == "c" * 40
    assert resolve_commit("org/name", "v3") is None


def test_a_commit_is_not_set_by_hand():
    with pytest.raises(SpecError, match=r"model\.commit='abc': is filled in at launch; .*model\.revision"):
        build_manifest(compose_sweep(["model=hf", "model.path=org/name", "+model.commit=abc"]))
