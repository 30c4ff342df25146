import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sweeps.manifest.hf_cache import (
    cache_folder,
    commit_of,
    has_network,
    missing_files,
    resolve_commit,
    snapshot,
)
from sweeps.spec import SpecError


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """A cache laid out as the hub's own client lays it out, holding `org/name` at commit c0ffee."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--org--name"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("c0ffee")
    snapshot_dir = folder / "snapshots" / "c0ffee"
    snapshot_dir.mkdir(parents=True)
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (snapshot_dir / name).write_text("{}")
    return snapshot_dir


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


@pytest.fixture
def answers(monkeypatch, tmp_path):
    """A hub of this machine's own: serves a status and a JSON body by path, to an empty cache."""
    from huggingface_hub import constants

    pages = {}

    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            status, body = pages.get(self.path, (404, {}))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def do_HEAD(self):
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    yield pages
    server.shutdown()
    server.server_close()


def test_the_hub_is_asked_for_the_commit_of_a_revision_that_is_not_cached(answers):
    answers["/api/models/org/name/revision/refs%2Fpr%2F1"] = (200, {"sha": "c0ffee"})
    assert resolve_commit("org/name", "refs/pr/1") == "c0ffee"


def test_a_model_that_the_hub_does_not_have_is_refused(answers):
    answers["/api/models/org/closed/revision/main"] = (401, {})
    with pytest.raises(SpecError, match=r"org/none at main: the hub answers 404 .*model\.path"):
        resolve_commit("org/none", "main")
    with pytest.raises(SpecError, match=r"org/closed at main: the hub answers 401 .*log in"):
        resolve_commit("org/closed", "main")


def test_a_hub_out_of_order_leaves_the_commit_open(answers):
    answers["/api/models/org/name/revision/main"] = (503, {})
    assert resolve_commit("org/name", "main") is None


@pytest.mark.parametrize(
    ("hub_id", "revision"),
    [("../../etc", "main"), ("a/b", "../../../etc"), ("a/b", "/etc"), ("/e", "main")],
)
def test_a_name_that_leads_out_of_the_cache_is_refused(hub_id, revision):
    with pytest.raises(SpecError, match="is no name on the hub"):
        snapshot(hub_id, revision)
