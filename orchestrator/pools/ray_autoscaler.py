"""Ray's autoscaler: whether a cluster has one, and what it is asked for.

A request holds until another replaces it, whatever becomes of who made it: nodes that nobody uses would be
kept, and paid for. So it is taken back when a sweep ends, and a guard, a process of its own, takes it back
when the driver is killed.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Mapping

from ray.autoscaler.sdk import request_resources

from orchestrator.pools import ray_internals, ray_request_guard
from orchestrator.scheduling.events import Shape
from orchestrator.scheduling.growth import Feeler
from orchestrator.worker.process_env import import_environment, own_import_path

RENEW_S = 30.0
"""Period of asking anew for the same: a request is the whole cluster's, and another sweep's replaces it."""

FORGET_S = 300.0
"""Time after which what was refused is tried again: somebody may have raised a limit."""

Request = list[dict[str, float]]
"""One entry for each process that is to find room, in Ray's names."""


class Autoscaler:
    """What this process asks a cluster's autoscaler for; nothing where it has none, or nothing is wanted."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._speaks = False
        self._feeler = Feeler()
        self._request: Request = []
        self._asked_s = self._forgot_s = time.monotonic()
        self._asked_at = 0
        self._guard: subprocess.Popen[bytes] | None = None

    def speaks(self) -> bool:
        """Whether nodes of the cluster come and go with what is asked for."""
        self._speaks = (
            self._speaks or ray_internals.autoscaler_state().seen > 0 or ray_internals.has_first_autoscaler()
        )
        return self._speaks

    def seek(self, wanted: Mapping[Shape, int]) -> None:
        """Ask for so many workers of each shape, or for as many of them as the cluster can become large
        enough for; to be called every second or so. Raises whatever Ray does when the head does not answer.
        """
        state, now_s = ray_internals.autoscaler_state(), time.monotonic()
        if not state.seen:  # the first version gives what it can of a request
            self._put(wanted)
            return
        if self._feeler.is_trying and state.seen <= self._asked_at:
            return
        self._feeler.judge(feasible=not state.refuses)
        if now_s - self._forgot_s > FORGET_S:
            self._feeler.forget_refusals()
            self._forgot_s = now_s
        self._put(self._feeler.next(wanted))

    def _put(self, workers: Mapping[Shape, int]) -> None:
        request = [demand(shape) for shape, num in workers.items() for _ in range(num * shape.world_size)]
        now_s = time.monotonic()
        if request == self._request and (not request or now_s - self._asked_s < RENEW_S):
            return
        if self._guard is None:
            self._guard = _start_guard(self._address)
        request_resources(bundles=request)
        self._request, self._asked_s = request, now_s
        self._asked_at = ray_internals.autoscaler_state().present

    def take_back(self) -> None:
        """Ask for nothing any more; a head that has gone needs no word."""
        with contextlib.suppress(Exception):
            self._put({})
        if self._guard is not None:
            self._guard.kill()
            self._guard.wait()
            self._guard = None


def demand(shape: Shape) -> dict[str, float]:
    """What one rank takes of its node, as Ray names it."""
    demand = {"CPU": shape.cpus, "GPU": shape.gpus, "memory": float(int(shape.memory_gib * 2**30))}
    return {resource: amount for resource, amount in demand.items() if amount}


def _start_guard(address: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", ray_request_guard.__name__, address, str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, **import_environment(own_import_path())},
    )
