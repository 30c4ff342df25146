"""Hub models, from a hub of this machine's own to several processes at once."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sweeps.manifest.resolve_data import resolve_data
from tests.trainers.worlds import package_file
from trainers.model import download

COMMIT = "c0ffee" * 6 + "c0ff"
DOWNLOAD = "from trainers.model.download import local_folder; print(local_folder('org/tiny', 'main'))"
LOAD = """
import sys
from sweeps.spec import ModelSpec
from trainers.model.base_model import load_base, load_weights
for spec in ModelSpec(path=sys.argv[1]), ModelSpec(path="org/tiny", hub_id="org/tiny", revision="main"):
    base, model = load_base(spec), load_weights(spec, precision="fp32", attention="eager")
    print(base.eos_ids, sum(p.abs().sum().item() for p in model.parameters()), base.location, sep="|")
"""
TRAIN = """
from dataclasses import replace
from sweeps.spec import ModelSpec
from tests.trainers.worlds import tiny_spec
from trainers.model import download
from trainers.policy_trainer import PolicyTrainer
from trainers.protocol import RunContext, WorkerContext

download.LOOK_S = 0.05
beats = []
spec = replace(tiny_spec("tiny-32"), model=ModelSpec(path="org/tiny", hub_id="org/tiny", revision="main"))
trainer = PolicyTrainer(WorkerContext())
print(trainer.run(spec, RunContext(heartbeat=beats.append)).outcome)
print(sum("GiB of models" in beat for beat in beats))
trainer.close()
"""
WEIGHTS = "model.safetensors"


class Hub:
    """Serves one model, or data set, and counts what is asked for."""

    def __init__(self, files: dict[str, bytes], api: str = "models/org/tiny", at: str = "org/tiny") -> None:
        self.files, self.api, self.at = files, api, at
        self.refused: set[str] = set()
        self.asked: Counter[str] = Counter()
        self.gate = threading.Event()
        """Weights stop half way until it is set."""
        self.gate.set()
        self.half_way = threading.Event()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self):
                hub.answer(self, body=False)

            def do_GET(self):
                hub.answer(self, body=True)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, request: BaseHTTPRequestHandler, *, body: bool) -> None:
        path = urlsplit(request.path).path
        name = path.rsplit("/", 1)[-1]
        if path in (f"/api/{self.api}/revision/{revision}" for revision in ("main", COMMIT)):
            self._send(request, 200, json.dumps({"id": "org/tiny", "sha": COMMIT}).encode(), body, "commit")
        elif path == f"/api/{self.api}/tree/{COMMIT}":
            entries = [
                {"type": "file", "path": n, "size": len(b), "oid": hashlib.sha1(b).hexdigest()}
                for n, b in self.files.items()
            ]
            self._send(request, 200, json.dumps(entries).encode(), body, "list")
        elif path == f"/{self.at}/resolve/{COMMIT}/{name}" and name not in self.refused:
            self._send(request, 200, self.files[name], body, name)
        else:
            self._send(request, 403, b"", body, "something else")

    def _send(self, request, status: int, content: bytes, body: bool, name: str) -> None:
        request.send_response(status)
        request.send_header("Content-Length", str(len(content)))
        request.send_header("X-Repo-Commit", COMMIT)
        request.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        request.end_headers()
        if body:
            self.asked[name] += 1
            middle = len(content) // 2 if name == WEIGHTS else 0
            request.wfile.write(content[:middle])
            if name == WEIGHTS and not self.gate.is_set():
                request.wfile.flush()
                self.half_way.set()
                self.gate.wait(60)
            try:
                request.wfile.write(content[middle:])
            except OSError:
                request.close_connection = True

    def close(self) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def hub():
    folder = package_file("trainers/tiny/models/tiny-32")
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    opened = Hub(files | {"pytorch_model.bin": b"pickled", "modeling_tiny.py": b"raise SystemExit"})
    yield opened
    opened.close()


@pytest.fixture
def hub_of_sets():
    rows = "".join(
        json.dumps({"problem": f"{n}+{n}=", "answer": f"{2 * n:03}"}) + "\n" for n in range(10, 30)
    )
    card = b"---\nconfigs:\n- config_name: sums\n  data_files:\n  - split: dev\n    path: sums.jsonl\n---\n"
    opened = Hub(
        {"README.md": card, "sums.jsonl": rows.encode(), "picture.png": b"png"},
        api="datasets/org/sums",
        at="datasets/org/sums",
    )
    yield opened
    opened.close()


@pytest.fixture
def start(request, tmp_path):
    """Starts processes of one node, whose disk is `tmp_path`."""
    started = []
    of_sets = "hub_of_sets" in request.fixturenames
    hub = request.getfixturevalue("hub_of_sets" if of_sets else "hub")

    def start(code: str = DOWNLOAD, *words: str) -> subprocess.Popen[str]:
        cleared = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGINGFACE_"))}
        process = subprocess.Popen(
            [sys.executable, "-c", code, *words],
            env={**cleared, "HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def folder_of(process: subprocess.Popen[str]) -> Path:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return Path(out.strip())


def is_whole(folder: Path, hub: Hub) -> bool:
    served = {n: b for n, b in hub.files.items() if n.endswith((".json", ".safetensors", ".jinja"))}
    return {path.name: path.read_bytes() for path in folder.iterdir()} == served


def test_however_many_workers_a_node_has_a_model_is_downloaded_once(hub, start, tmp_path):
    [folder] = {folder_of(process) for process in [start() for _ in range(5)]}
    assert folder.is_relative_to(tmp_path)
    assert is_whole(folder, hub)  # pickled weights and the model's own code are left alone
    del hub.asked["something else"]  # what the client asks about itself
    assert hub.asked == {"commit": 1, "list": 1, **{path.name: 1 for path in folder.iterdir()}}
    asked = hub.asked.copy()
    assert folder_of(start()) == folder
    assert hub.asked == asked, "who comes later asks the hub nothing"


def test_a_node_whose_downloader_is_killed_gets_the_model_from_the_next(hub, start):
    hub.gate.clear()
    first = start()
    assert hub.half_way.wait(60)
    second = start()
    time.sleep(1.0)
    assert second.poll() is None
    assert hub.asked[WEIGHTS] == 1, "the second waits"
    first.send_signal(signal.SIGKILL)
    first.wait()
    hub.gate.set()
    assert is_whole(folder_of(second), hub)


def test_a_download_that_fails_frees_the_lock_and_is_no_download(hub, start):
    hub.refused.add("generation_config.json")
    failed = start()
    _, err = failed.communicate(timeout=60)
    assert failed.returncode != 0
    assert "403" in err
    hub.refused.clear()
    assert is_whole(folder_of(start()), hub)


def test_a_cache_that_somebody_else_filled_is_used_as_it_is(hub, start, tmp_path):
    folder = tmp_path / "hub/models--org--tiny/snapshots" / COMMIT
    folder.mkdir(parents=True)
    (folder.parents[1] / "refs").mkdir()
    (folder.parents[1] / "refs/main").write_text(COMMIT)
    for name in ("config.json", "tokenizer.json", WEIGHTS):
        (folder / name).write_bytes(hub.files[name])
    assert folder_of(start()) == folder
    assert not hub.asked


@pytest.mark.slow
def test_a_trainer_loads_a_hub_model_from_the_nodes_own_disk(hub, start, tmp_path):
    out, err = start(LOAD, str(package_file("trainers/tiny/models/tiny-32"))).communicate(timeout=120)
    [*expected, _], [*lines, folder_text] = (line.split("|") for line in out.splitlines() or pytest.fail(err))
    assert lines == expected
    assert Path(folder_text).is_relative_to(tmp_path)
    assert hub.asked[WEIGHTS] == 1


def test_a_download_is_progress_for_as_long_as_it_gets_on(hub, start, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "LOOK_S", 0.05)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    beats = []
    hub.gate.clear()
    process = start()
    assert hub.half_way.wait(60)
    time.sleep(0.5)
    with download.beating_while_models_grow(beats.append):
        time.sleep(0.5)
        assert not beats, "it stands still"
        hub.gate.set()
        folder_of(process)
        time.sleep(0.5)
    assert beats
    beats.clear()
    time.sleep(0.2)
    assert not beats


@pytest.mark.slow
def test_a_run_that_waits_for_its_model_shows_progress(start):
    out, err = start(TRAIN).communicate(timeout=120)
    outcome, beats = out.split()[-2:] or pytest.fail(err)
    assert outcome == "done", err
    assert int(beats) >= 1


TRAIN_ON_SET = """
from sweeps.manifest.resolve_data import resolve_data
from sweeps.spec import SpecError
from tests.trainers.worlds import tiny_spec
from trainers.policy_trainer import PolicyTrainer
from trainers.protocol import RunContext, WorkerContext

content = {"digest": %r, "num_rows": 20, "has_answers": True}
where = {"path": "org/sums", "hub_id": "org/sums", "revision": "main", "commit": %r, "split": "dev"}
spec = tiny_spec("tiny-32", example={"prompts": [], "name": ""}, data=where | content, steps=1)
trainer = PolicyTrainer(WorkerContext())
print(trainer.run(spec, RunContext()).outcome)
trainer.close()
"""


@pytest.mark.slow
def test_a_trainer_walks_over_a_set_of_the_hub_from_the_nodes_own_disk(hub_of_sets, start, tmp_path):
    file = tmp_path / "same.jsonl"
    file.write_bytes(hub_of_sets.files["sums.jsonl"])
    digest = resolve_data({"path": str(file)})[0]["digest"]
    for _ in range(2):
        out, err = start(TRAIN_ON_SET % (digest, COMMIT)).communicate(timeout=120)
        assert out.strip() == "done", err
    assert (hub_of_sets.asked["sums.jsonl"], hub_of_sets.asked["picture.png"]) == (1, 0)
    folder = tmp_path / "hub/datasets--org--sums/snapshots" / COMMIT
    assert {path.name for path in folder.iterdir()} == {"README.md", "sums.jsonl"}
