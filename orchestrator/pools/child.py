"""A worker process of the local pool: ``python -P -m orchestrator.pools.child FD``, its end of a socket pair.

The main thread trains, a second one listens, a third one beats. The process ends when the driver's end
closes, whatever it is doing: an orphan must not compute.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import itertools
import os
import queue
import signal
import socket
import sys
import threading
from pathlib import Path

from orchestrator.pools.channel import WorkerChannel
from orchestrator.worker.hot_trainers import HotTrainers
from orchestrator.worker.protocol import WorkerSetup
from orchestrator.worker.runtime import BEAT_S, Runtime
from sweeps.origins import give_way

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve the driver until it says stop or goes away."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the driver decides
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    channel = WorkerChannel(socket.socket(fileno=int(sys.argv[1])))
    setup: WorkerSetup = channel.receive()
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    rendezvous = ""
    if setup.context.world_size > 1:
        rendezvous = _meet(channel, setup)
        setup = _with_rendezvous(setup, rendezvous)
    give_way("analysis")
    life = _Life(channel, setup)
    for duty in (life.listen, life.beat):
        threading.Thread(target=duty, daemon=True, name=duty.__name__).start()
    life.work()


class _Life:
    """What a worker process does for one driver, or for several, one after the other: each has a runtime of
    its own, and finds the trainers that the one before has left warm.
    """

    def __init__(self, channel: WorkerChannel, setup: WorkerSetup) -> None:
        self._channel = channel
        self._runtime = self._new_runtime(setup)
        self._setups: queue.SimpleQueue[WorkerSetup | None] = queue.SimpleQueue()
        self._over = threading.Event()

    def work(self) -> None:
        """Train until nobody wants anything more."""
        for life in itertools.count():
            self._channel.send(("ready", socket.gethostname()))
            self._runtime.warm()
            if not life:
                gc.freeze()  # all that was imported: the collector looks at what the runs make
            self._runtime.loop()
            if not self._runtime.parked:
                break
            self._channel.send(("parked", None))
            setup = self._setups.get()
            if setup is None:
                self._runtime.trainers.close()
                break
            _log_into(setup.log)
            self._runtime = self._new_runtime(setup, self._runtime.trainers)
        self._over.set()

    def _new_runtime(self, setup: WorkerSetup, trainers: HotTrainers | None = None) -> Runtime:
        return Runtime(setup, lambda batch: self._channel.send(("batch", batch)), trainers)

    def listen(self) -> None:
        """Do what the driver says."""
        try:
            while True:
                kind, value = self._channel.receive()
                if kind == "items":
                    self._runtime.add(value)
                elif kind == "cancel":
                    self._runtime.cancel(value)
                elif kind == "park":
                    self._runtime.park()
                elif kind == "setup":
                    self._setups.put(value)
                else:
                    self._runtime.stop()
                    self._setups.put(None)
        except (EOFError, OSError):
            os._exit(1)

    def beat(self) -> None:
        """Say about once a second that the process lives."""
        try:
            while not self._over.wait(BEAT_S):
                runtime = self._runtime
                runtime.flush()
                self._channel.send(("pulse", runtime.pulse()))
        except OSError:
            os._exit(1)


def _log_into(log: Path) -> None:
    """Have what this process prints go into another log from here on."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as opened:
        for number in (1, 2):
            os.dup2(opened.fileno(), number)


def _meet(channel: WorkerChannel, setup: WorkerSetup) -> str:
    """Rank 0 opens the gang's meeting point and tells the driver, who tells the others."""
    if setup.context.rank == 0:
        from trainers.engine.gang import host_rendezvous

        address = host_rendezvous("127.0.0.1")
        channel.send(("rendezvous", address))
        return address
    kind, address = channel.receive()
    assert kind == "rendezvous"
    return address


def _with_rendezvous(setup: WorkerSetup, address: str) -> WorkerSetup:
    from dataclasses import replace

    return replace(setup, context=replace(setup.context, rendezvous=address))


if __name__ == "__main__":
    main()
