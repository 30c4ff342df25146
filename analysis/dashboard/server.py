"""Finds a port, says where the page is, and serves it until it is stopped."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import psutil
import uvicorn

from analysis.dashboard.app import build_app
from analysis.dashboard.queue_job import AskQueue
from analysis.dashboard.security import is_loopback, new_token
from analysis.dashboard.slow_clients import TimedProtocol
from analysis.dashboard.snapshot import Store
from orchestrator.store.memory import use_few_arenas, use_system_allocator
from sweeps.spec.errors import UserError

MAX_PORTS = 50
"""Ports tried one after the other with ``next_port``."""

BACKLOG = 128
"""Connections that may wait to be taken: a browser opens six at a time."""


KEEP_ALIVE_S = 15
"""Longest an idle connection stays open after an answer: a page asks for its parts within a second."""


class Server:
    """A dashboard that has its port and can be run."""

    def __init__(
        self,
        directory: Path,
        *,
        host: str,
        port: int,
        next_port: bool = False,
        ask_queue: AskQueue | None = None,
    ) -> None:
        """Open the directory and take the port.

        Args:
            ask_queue: says what the queue tells of the sweep's job, where it was handed to one.

        Raises:
            UserError: when the directory is no sweep, or the port cannot be had.
        """
        use_system_allocator()
        use_few_arenas()
        self.store = Store(directory, ask_queue=ask_queue)
        self.token = None if is_loopback(host) else new_token()
        self._socket = bind(host, port, next_port=next_port)
        self.port: int = self._socket.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self.port}/"

    def run(self) -> None:
        config = uvicorn.Config(
            build_app(self.store, token=self.token),
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=2,
            timeout_keep_alive=KEEP_ALIVE_S,
            http=TimedProtocol,
        )
        uvicorn.Server(config).run(sockets=[self._socket])


def bind(host: str, port: int, *, next_port: bool) -> socket.socket:
    """A listening socket; with ``next_port`` on the first free port from ``port`` on.

    Raises:
        UserError: when the port is busy (says by whom), or the address is not one of this machine.
    """
    if not 0 <= port <= 65_535:
        raise UserError(f"--port {port}: give a number from 0 (any free port) to 65535")
    last = min(port + MAX_PORTS, 65_535) if next_port else port
    for number in range(port, last + 1):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, number))
            listener.listen(BACKLOG)  # who comes before the server runs is served, not refused
            return listener
        except (OSError, OverflowError) as error:
            listener.close()
            code = getattr(error, "errno", None)
            if code == errno.EADDRINUSE:
                continue
            why = getattr(error, "strerror", None) or str(error)
            raise UserError(f"--host {host} --port {number}: cannot be used ({why})") from error
    raise UserError(
        f"port {port} is in use by {holder(port)}; choose another with --port, or add --next-port to take "
        "the next free one"
    )


def holder(port: int) -> str:
    """Who listens on a port: process id and command, as far as we may know."""
    try:
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                process = psutil.Process(connection.pid)
                return f"process {process.pid} ({' '.join(process.cmdline())[:120]})"
    except (psutil.Error, OSError):
        pass
    return "another process, of another user"
