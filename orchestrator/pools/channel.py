"""Messages between the driver and a worker process over a socket pair: a length, then a pickle.

Only processes of one sweep on one machine ever hold either end.
"""

from __future__ import annotations

import pickle
import socket
import struct
import threading
from typing import Any

_LENGTH = struct.Struct("<Q")
_CHUNK = 1 << 18


class Channel:
    """The driver's end: never blocks, so that a stopped worker cannot stop the driver."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._outgoing = bytearray()
        self._incoming = bytearray()
        self.closed = False
        """True once the other end has gone."""

    def fileno(self) -> int:
        return self._sock.fileno()

    @property
    def backlog(self) -> int:
        """Bytes that the worker has not taken yet."""
        return len(self._outgoing)

    def send(self, message: bytes) -> None:
        """Queue a packed message (see :func:`pack`) and send what the worker takes now."""
        self._outgoing += message
        self.flush()

    def flush(self) -> None:
        try:
            while self._outgoing:
                sent = self._sock.send(self._outgoing[:_CHUNK])
                del self._outgoing[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self._outgoing.clear()
            self.closed = True

    def receive(self) -> list[Any]:
        try:
            while data := self._sock.recv(_CHUNK):
                self._incoming += data
            self.closed = True
        except BlockingIOError:
            pass
        except OSError:
            self.closed = True
        messages, start = [], 0
        while len(self._incoming) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._incoming, start)
            end = start + _LENGTH.size + length
            if end > len(self._incoming):
                break
            messages.append(pickle.loads(self._incoming[start + _LENGTH.size : end]))
            start = end
        del self._incoming[:start]
        return messages

    def close(self) -> None:
        self._sock.close()


class WorkerChannel:
    """The worker's end: blocks, and may be used by several threads."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(True)
        self._sock = sock
        self._lock = threading.Lock()
        self._reader = sock.makefile("rb")

    def send(self, value: Any) -> None:
        with self._lock:
            self._sock.sendall(pack(value))

    def receive(self) -> Any:
        """Wait for one message.

        Raises:
            EOFError: when the driver has gone.
        """
        head = self._reader.read(_LENGTH.size)
        if len(head) < _LENGTH.size:
            raise EOFError
        (length,) = _LENGTH.unpack(head)
        body = self._reader.read(length)
        if len(body) < length:
            raise EOFError
        return pickle.loads(body)


def pack(value: Any) -> bytes:
    """A message as bytes; pack once to send to every rank of a gang."""
    data = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(data)) + data
