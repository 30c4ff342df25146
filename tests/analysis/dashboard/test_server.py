from __future__ import annotations

import os
import socket

import pytest

from analysis.dashboard.server import Server, bind
from orchestrator.errors import UserError


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
    with bind("127.0.0.1", busy, next_port=True) as found:
        assert busy < found.getsockname()[1] <= busy + 50


@pytest.mark.parametrize(
    ("host", "port"), [("127.0.0.1", -1), ("127.0.0.1", 70_000), ("203.0.113.7", 0), ("no host", 0)]
)
def test_an_address_that_cannot_be_had_is_refused(host, port):
    with pytest.raises(UserError, match="--"):
        bind(host, port, next_port=False)


def test_only_other_machines_are_asked_for_a_token(quickstart):
    assert Server(quickstart, host="127.0.0.1", port=0).token is None
    assert len(Server(quickstart, host="0.0.0.0", port=0).token) >= 20
