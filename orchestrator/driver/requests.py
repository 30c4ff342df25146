"""What other processes ask a driver for, as what it does about it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from orchestrator.scheduling.events import CancelRequested
from orchestrator.store.matching import matching
from orchestrator.store.run_index import PENDING, RunIndex
from sweeps.manifest.manifest import Manifest


class Cap(NamedTuple):
    """How much may be in use at once; 0 lifts a cap."""

    max_slots: int
    max_gpus: float


def event_of(
    request: Mapping[str, Any], manifest: Manifest, book: RunIndex
) -> CancelRequested | Cap | Literal["stop"]:
    """What a request, as :mod:`orchestrator.store.control` leaves it, asks for.

    Raises:
        SpecError, KeyError, TypeError, ValueError: for one that is none.
    """
    match request["verb"]:
        case "cancel":
            runs = matching(manifest, book, request["filters"])
            return CancelRequested(runs=tuple(i for i in runs if book.outcome[i] == PENDING))
        case "cap":
            return Cap(int(request["max_slots"]), float(request["max_gpus"]))
        case "stop":
            return "stop"
        case verb:
            raise ValueError(f"unknown verb {verb!r}")
