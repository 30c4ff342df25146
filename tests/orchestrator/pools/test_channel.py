"""Messages between the driver and a worker process."""

from __future__ import annotations

import socket
import threading

import pytest

from orchestrator.pools.channel import Channel, WorkerChannel, pack


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    channel, worker = Channel(ours), WorkerChannel(theirs)
    yield channel, worker, theirs
    channel.close()
    theirs.close()


def received(channel: Channel, num: int) -> list:
    found: list = []
    while len(found) < num and not channel.closed:
        found += channel.receive()
    return found


def test_messages_arrive_whole_and_in_order_whatever_their_size(ends):
    channel, worker, _ = ends
    sent = [("small", 1), ("large", bytes(3_000_000)), ("empty", None)]
    threading.Thread(target=lambda: [worker.send(m) for m in sent], daemon=True).start()
    assert received(channel, 3) == sent


def test_a_message_in_two_pieces_is_given_out_once_it_is_whole(ends):
    channel, _, theirs = ends
    data = pack(("batch", [1, 2, 3]))
    theirs.sendall(data[:11])
    assert channel.receive() == []
    theirs.sendall(data[11:])
    assert channel.receive() == [("batch", [1, 2, 3])]


def test_a_worker_that_does_not_read_never_blocks_the_driver(ends):
    channel, worker, _ = ends
    big = pack(bytes(8_000_000))
    channel.send(big)
    assert 0 < channel.backlog < len(big)
    reader = threading.Thread(target=lambda: found.append(worker.receive()), daemon=True)
    found: list = []
    reader.start()
    while channel.backlog:
        channel.flush()
    reader.join(10)
    assert found == [bytes(8_000_000)]


def test_the_end_of_either_side_is_noticed_after_its_last_words(ends):
    channel, worker, theirs = ends
    worker.send("last words")
    theirs.shutdown(socket.SHUT_RDWR)
    assert channel.receive() == ["last words"]
    assert channel.closed
    channel.send(pack("too late"))
    assert channel.backlog == 0


def test_a_worker_learns_that_its_driver_has_gone(ends):
    channel, worker, _ = ends
    channel.close()
    with pytest.raises(EOFError):
        worker.receive()
