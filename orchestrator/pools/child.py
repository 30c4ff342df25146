"""A worker process of the local pool: ``python -P -m orchestrator.pools.child FD``, its end of a socket pair.

The main thread trains, a second one listens, a third one beats. The process ends when the driver's end
closes, whatever it is doing: an orphan must not compute.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import socket
import sys
import threading

from orchestrator.pools.channel import WorkerChannel
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
    runtime = Runtime(setup, lambda batch: channel.send(("batch", batch)))
    threading.Thread(target=_listen, args=(channel, runtime), daemon=True, name="listen").start()
    channel.send(("ready", socket.gethostname()))
    stopped = threading.Event()
    threading.Thread(target=_beat, args=(channel, runtime, stopped), daemon=True, name="beat").start()
    runtime.warm()
    runtime.loop()
    stopped.set()


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


def _listen(channel: WorkerChannel, runtime: Runtime) -> None:
    try:
        while True:
            kind, value = channel.receive()
            if kind == "items":
                runtime.add(value)
            elif kind == "cancel":
                runtime.cancel(value)
            else:
                runtime.stop()
    except (EOFError, OSError):
        os._exit(1)


def _beat(channel: WorkerChannel, runtime: Runtime, stopped: threading.Event) -> None:
    try:
        while not stopped.wait(BEAT_S):
            runtime.flush()
            channel.send(("pulse", runtime.pulse()))
    except OSError:
        os._exit(1)


if __name__ == "__main__":
    main()
