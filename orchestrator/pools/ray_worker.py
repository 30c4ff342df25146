"""One rank inside a Ray actor: the process behind a worker of the Ray pool.

The actor trains in a thread of its own, so that calls are answered meanwhile. What libraries print, and the
stacks of a process that crashes or hangs, go to the log that its setup names.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import queue
import secrets
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import psutil
import ray

from orchestrator.pools.devices import VISIBLE_GPUS
from orchestrator.pools.marked import WORKER, start_guard
from orchestrator.worker.protocol import Heartbeat, ReportBatch, Task, WorkerSetup
from orchestrator.worker.runtime import BEAT_S, Runtime
from sweeps.origins import give_way

STOP_WAIT_S = 5.0
"""Time an idle worker gets to free what it holds before it is killed."""

ACTOR_THREADS = 4
"""Ray's threads per actor: one waits in ``poll``, the others take what comes in."""


class Place(NamedTuple):
    """Where a rank lives."""

    host: str
    node: str
    """Ray's id of the node; two nodes may share a machine, and two machines a name."""
    pid: int
    gpus: str
    """The GPUs it sees, as ``CUDA_VISIBLE_DEVICES`` lists them."""


class InOrder:
    """Passes batches on in the order of their numbers, whichever of Ray's threads comes first: the ranks of a
    gang must run the same batch at the same time.
    """

    def __init__(self, pass_on: Callable[[list[Task]], None]) -> None:
        self._pass_on = pass_on
        self._early: dict[int, list[Task]] = {}
        self._next = 0
        self._lock = threading.Lock()

    def take(self, number: int, items: list[Task]) -> None:
        """Batch ``number``, counted from 0, has come."""
        with self._lock:
            self._early[number] = items
            while self._next in self._early:
                self._pass_on(self._early.pop(self._next))
                self._next += 1


class RayWorker:
    """One rank."""

    def __init__(self, setup: WorkerSetup) -> None:
        self._outbox: queue.SimpleQueue[ReportBatch] = queue.SimpleQueue()
        self._setup = setup
        self._runtime: Runtime | None = None
        self._thread: threading.Thread | None = None
        if not ray.get_runtime_context().get_accelerator_ids()["GPU"]:
            os.environ[VISIBLE_GPUS] = ""  # Ray leaves what its node sees
        os.environ[WORKER] = secrets.token_hex(16)
        start_guard(f"{WORKER}={os.environ[WORKER]}")  # what trainers start ends with this process
        setup.log.parent.mkdir(parents=True, exist_ok=True)
        self._log = setup.log.open("ab", buffering=0)
        for stream in (1, 2):  # what libraries print belongs in the log, not in the driver's terminal
            os.dup2(self._log.fileno(), stream)
        faulthandler.enable(self._log)
        faulthandler.register(signal.SIGUSR1, self._log, all_threads=True)

    def host_rendezvous(self) -> str:
        """Open the gang's meeting point; rank 0 only."""
        from trainers.engine.gang import host_rendezvous

        return host_rendezvous(ray.util.get_node_ip_address())

    def start(self, rendezvous: str) -> Place:
        """Begin to work, in a gang that meets at ``rendezvous`` or alone when that is empty."""
        setup = self._setup
        if rendezvous:
            _listen_on_node_address()
            setup = replace(setup, context=replace(setup.context, rendezvous=rendezvous))
        give_way("analysis")
        self._runtime = Runtime(setup, self._outbox.put)
        self._batches = InOrder(self._runtime.add)
        self._thread = threading.Thread(target=self._work, daemon=True, name="train")
        self._thread.start()
        node = ray.get_runtime_context().get_node_id()
        return Place(socket.gethostname(), node, os.getpid(), os.environ.get(VISIBLE_GPUS, ""))

    def _work(self) -> None:
        assert self._runtime is not None
        try:
            self._runtime.warm()
            gc.freeze()  # all that was imported: the collector looks at what the runs make
            self._runtime.loop()
        except BaseException:
            faulthandler.dump_traceback(self._log)
            os._exit(1)

    def submit(self, number: int, items: list[Task]) -> None:
        """Queue the worker's batch ``number``."""
        self._batches.take(number, items)

    def cancel(self, tokens: tuple[int, ...]) -> None:
        assert self._runtime is not None
        self._runtime.cancel(tokens)

    def stop(self) -> None:
        """End after the current run and free what is warm; return once that is done, or takes too long."""
        if self._runtime is not None and self._thread is not None:
            self._runtime.stop()
            self._thread.join(STOP_WAIT_S)

    def record_stack(self) -> None:
        faulthandler.dump_traceback(self._log, all_threads=True)

    def poll(self) -> tuple[list[ReportBatch], Heartbeat]:
        """Wait up to a heartbeat for something to finish; return it with the present state."""
        assert self._runtime is not None
        batches: list[ReportBatch] = []
        with contextlib.suppress(queue.Empty):
            batches.append(self._outbox.get(timeout=BEAT_S))
            while True:
                batches.append(self._outbox.get_nowait())
        if not batches:
            self._runtime.flush()
        return batches, self._runtime.pulse()


def _listen_on_node_address() -> None:
    """Make gloo listen where Ray does: by itself it takes the address of the host's name, which on many
    machines is a loopback one that no other node reaches.
    """
    address = ray.util.get_node_ip_address()
    for interface, known in psutil.net_if_addrs().items():
        if any(a.address == address for a in known):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
