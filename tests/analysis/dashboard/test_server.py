from __future__ import annotations

import os
import socket
import threading
import time

import httpx
import pytest
import uvicorn

from analysis.dashboard.app import build_app
from analysis.dashboard.server import Server, bind
from analysis.dashboard.snapshot import Store
from sweeps.spec.errors import UserError


@pytest.fixture
def busy():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def test_a_busy_port_says_who_holds_it_and_what_to_do(busy):
    with pytest.raises(UserError) as error:
        bind("127.0.0.1", busy, next_port=False)
    assert f"process {os.getpid()}" in str(error.value)
    assert "--next-port" in str(error.value)


def test_the_next_free_port_is_taken_on_request(busy):
    with bind("127.0.0.1", busy, next_port=True) as listener:
        assert busy < listener.getsockname()[1] <= busy + 50


@pytest.mark.parametrize(
    ("host", "port"), [("127.0.0.1", -1), ("127.0.0.1", 70_000), ("203.0.113.7", 0), ("no host", 0)]
)
def test_an_address_that_cannot_be_had_is_refused(host, port):
    with pytest.raises(UserError, match="--"):
        bind(host, port, next_port=False)


def test_only_other_machines_are_asked_for_a_token(quickstart):
    assert Server(quickstart, host="127.0.0.1", port=0).token is None
    assert len(Server(quickstart, host="0.0.0.0", port=0).token) >= 20


@pytest.fixture
def serving(quickstart):
    """A store and the address that it is served at."""
    store = Store(quickstart)
    server = uvicorn.Server(uvicorn.Config(build_app(store), log_level="warning", lifespan="off"))
    with bind("127.0.0.1", 0, next_port=False) as bound:
        thread = threading.Thread(target=server.run, args=([bound],))
        thread.start()
        yield store, bound.getsockname()
        server.should_exit = True
        thread.join()


def test_a_question_whose_asker_has_gone_is_dropped_when_its_turn_comes(serving):
    store, address = serving
    path, answers, snapshot = "/curves?by=model&metric=accuracy_sampled&filter=", [], store.current()
    with snapshot.reading(lane="slow"):  # both come while the lane is taken
        with socket.create_connection(address) as leaving:
            leaving.sendall(f"GET {path}seed=0 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            time.sleep(0.5)
        url = f"http://127.0.0.1:{address[1]}{path}seed=1"
        staying = threading.Thread(target=lambda: answers.append(httpx.get(url)))
        staying.start()
        time.sleep(0.5)
    staying.join()
    assert answers[0].status_code == 200
    key = ("curves", "model", "accuracy_sampled")
    assert snapshot.knows(key, "seed=1")
    assert not snapshot.knows(key, "seed=0")
