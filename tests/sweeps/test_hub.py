import json

import pytest

from sweeps.hub import cache_folder, commit_of, has_network, missing_files, snapshot


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """A cache laid out as the hub's own client lays it out, holding `org/name` at commit c0ffee."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--org--name"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("c0ffee")
    place = folder / "snapshots" / "c0ffee"
    place.mkdir(parents=True)
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (place / name).write_text("{}")
    return place


def test_a_cached_model_is_found_by_branch_and_by_commit(cached):
    assert snapshot("org/name", "main") == snapshot("org/name", "c0ffee") == cached
    assert commit_of("org/name", "main") == "c0ffee"
    assert missing_files("org/name", "main") == ()


def test_a_model_or_revision_that_is_not_cached_misses_everything(cached):
    assert snapshot("org/other", "main") is None
    assert commit_of("org/name", "v2") is None
    assert len(missing_files("org/name", "v2")) == 3


def test_each_missing_file_is_named(cached):
    (cached / "tokenizer.json").unlink()
    (cached / "model.safetensors").unlink()
    assert missing_files("org/name", "main") == ("tokenizer.json", "model.safetensors")
    index = {"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}
    (cached / "model.safetensors.index.json").write_text(json.dumps(index))
    (cached / "m-1.safetensors").write_text("")
    assert missing_files("org/name", "main") == ("tokenizer.json", "m-2.safetensors")


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "hub"
    monkeypatch.delenv("HF_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache_folder() == tmp_path / "x" / "huggingface" / "hub"


def test_the_network_is_not_asked_when_told_to_stay_offline(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert has_network() is False


def test_an_endpoint_that_does_not_answer_is_no_network(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert has_network() is False
