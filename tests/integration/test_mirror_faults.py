"""Uploading to Weights & Biases through a server of our own, which misbehaves."""

from __future__ import annotations

import collections
import gzip
import http.server
import json
import socket
import threading

import pytest

from orchestrator.mirror import mirror_sweep
from sweeps.spec.errors import UserError
from tests.analysis.synthetic import quickstart_world, write_sweep

wandb = pytest.importorskip("wandb")

KEY = "0123456789abcdef0123456789abcdef01234567"


class Server(http.server.ThreadingHTTPServer):
    """Speaks as much of W&B's protocol as its client needs to upload a run."""

    def __init__(self) -> None:
        self.faults: collections.deque[int | str] = collections.deque()
        """Answers to give first: a status, or ``drop`` to close the connection."""
        self.asked: list[str] = []
        self.runs: dict[str, dict] = {}
        self.history: dict[str, dict[int, dict]] = collections.defaultdict(dict)
        self.complete: set[str] = set()
        self.lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if self.path.startswith("/sdk"):  # the client's own telemetry
            return self._answer(200, {})
        with self.server.lock:
            fault = self.server.faults.popleft() if self.server.faults else None
            self.server.asked.append(f"{fault or 200} {self.path}")
            if fault == "drop":
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return None
            if fault is not None:
                return self._answer(int(fault), {"error": "not now"})
            return self._answer(200, self._take(json.loads(body)))

    do_GET = do_PUT = do_POST

    def _take(self, asked: dict) -> dict:
        if self.path.endswith("/file_stream"):
            run_id = self.path.split("/")[-2]
            history = (asked.get("files") or {}).get("wandb-history.jsonl", {})
            for number, line in enumerate(history.get("content", ()), history.get("offset", 0)):
                self.server.history[run_id][number] = json.loads(line)
            if asked.get("complete"):
                self.server.complete.add(run_id)
            return {}
        variables = asked.get("variables") or {}
        if "upsertBucket" in asked["query"]:
            known = self.server.runs.setdefault(variables["name"], {})
            known |= {key: value for key, value in variables.items() if value is not None}
            project = {"id": "p", "name": variables["project"], "entity": {"id": "e", "name": "me"}}
            bucket = {"id": "b", "name": variables["name"], "config": "{}", "project": project}
            bucket |= {"displayName": "", "sweepName": None, "historyLineCount": 0}
            return {"data": {"upsertBucket": {"bucket": bucket, "inserted": True}}}
        if "createRunFiles" in asked["query"]:
            return {"data": {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": []}}}
        return {"data": {}}

    def _answer(self, status: int, value: dict) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A running server, named with a key by the environment; W&B's client waits little between tries."""
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_ENTITY", "me")
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "20")
    for name in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / name))
    for kind in ("GRAPHQL", "FILE_STREAM"):
        monkeypatch.setenv(f"WANDB__{kind}_RETRY_WAIT_MIN_SECONDS", "0.05")
        monkeypatch.setenv(f"WANDB__{kind}_RETRY_WAIT_MAX_SECONDS", "0.2")
    yield server
    wandb.teardown()
    server.shutdown()
    server.server_close()


@pytest.fixture
def directory(tmp_path):
    axes = {"model": ("tiny-64",), "example": ("carry",), "optim.lr": (1e-4,), "seed": (0, 1)}
    return write_sweep(tmp_path / "small", quickstart_world(axes=axes, num_items=8, rng_seed=3))


@pytest.mark.slow
def test_with_a_key_runs_are_uploaded_once_whatever_the_server_answers_first(server, directory, tmp_path):
    server.faults.extend([429, 500, "drop"])
    report = mirror_sweep(directory, project="p")
    assert (report.new, report.already) == (2, 0)
    assert {"429", "500", "drop"} <= {line.split()[0] for line in server.asked}
    assert len(server.runs) == 2
    assert server.complete == set(server.runs)
    for run_id, sent in server.runs.items():
        steps = [row["_step"] for _, row in sorted(server.history[run_id].items())]
        assert steps == sorted(set(steps))
        assert len(steps) == 11
        assert sent["groupName"] == "cell 0"
        assert "optim.lr=0.0001" in sent["tags"]
    num_asked = len(server.asked)
    again = mirror_sweep(directory, project="p")
    assert (again.new, again.already) == (0, 2)
    assert len(server.asked) == num_asked
    for path in tmp_path.rglob("*"):  # neither the store nor any log has the key
        assert not (path.is_file() and KEY.encode() in path.read_bytes()), path


@pytest.mark.slow
def test_a_server_that_stays_silent_ends_in_one_line_and_the_next_call_goes_on(
    server, directory, monkeypatch
):
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "1")
    server.faults.extend(["drop"] * 10_000)
    waited = []
    with pytest.raises(UserError, match=r"0 were copied, and `emsweep mirror .*` goes on"):
        mirror_sweep(directory, project="p", sleep=waited.append)
    assert waited == sorted(waited)
    assert len(waited) >= 5
    server.faults.clear()
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "20")
    assert mirror_sweep(directory, project="p").new == 2
    assert server.complete == set(server.runs)
