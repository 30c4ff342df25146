"""A manifest as the scheduler sees it."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np

from orchestrator.scheduling.backlog import Group, Workload
from orchestrator.scheduling.events import Shape
from orchestrator.store.run_index import PENDING
from sweeps.manifest.manifest import Manifest
from sweeps.sharing.batches import batches
from sweeps.spec import ResourcesSpec


def shape_of(resources: ResourcesSpec) -> Shape:
    """What a worker must occupy for these resources."""
    return Shape(
        world_size=resources.world_size,
        gpus=resources.gpus_per_worker,
        cpus=resources.cpus_per_worker,
        memory_gib=resources.memory_gib,
    )


MAX_BUNDLE = 64
"""Most runs in one bundle: beyond it sharing gains little more, and a lost worker loses more."""

BUNDLES_PER_WORKER = 4
"""Bundles that each process should get at least, so that the last ones do not keep the others waiting."""


def pending_runs(outcome: bytearray) -> np.ndarray:
    """Indices of the runs without an outcome, of the codes that the run index holds."""
    return np.flatnonzero(np.frombuffer(outcome, dtype=np.uint8) == PENDING)


def workload_of(
    manifest: Manifest,
    to_share: np.ndarray | None = None,
    num_workers: int = 1,
    rounds: np.ndarray | None = None,
) -> Workload:
    """Group a manifest's runs by shape and base model; linear in the runs, one lookup each.

    Args:
        to_share: the runs still to run, if trainers may share work between them.
        num_workers: processes that they will be spread over.
        rounds: round of each run, shape (runs,): those of an earlier one are handed out first, and none of
            two rounds travel together.
    """
    models, resources = manifest.group_codes["model"], manifest.group_codes["resources"]
    numbers: dict[tuple[int, int], int] = {}
    groups: list[Group] = []
    group_of = array("I")
    for index, key in enumerate(zip(models.tolist(), resources.tolist(), strict=True)):
        number = numbers.get(key)
        if number is None:
            number = numbers[key] = len(groups)
            needs = manifest.group("resources", index)
            computes_model = manifest.group("trainer", index).computes_model
            affinity = manifest.group("model", index).name if computes_model else ""
            groups.append(Group(shape=shape_of(needs), affinity=affinity, timeout_s=needs.timeout_s))
        group_of.append(number)
    if to_share is None or not len(to_share):
        by_round = None if rounds is None else _array(np.argsort(rounds, kind="stable"))
        return Workload(groups=groups, group_of=group_of, order=by_round)
    order, bundle_of = _bundles(manifest, to_share, num_workers, rounds)
    return Workload(groups=groups, group_of=group_of, order=order, bundle_of=bundle_of)


def _bundles(
    manifest: Manifest, pending: np.ndarray, num_workers: int, rounds: np.ndarray | None
) -> tuple[Sequence[int] | None, Sequence[int] | None]:
    """Order of the pending runs in which those that share work are neighbours, and the bundle of each run.

    Nothing when no two runs share anything and any order will do.
    """
    of_round = [pending]
    if rounds is not None:
        of_round = [pending[rounds[pending] == number] for number in np.unique(rounds[pending])]
    order, bundle_of, num_bundles = [], np.zeros(len(manifest), dtype=np.uint32), 0
    for runs in of_round:
        fair = len(runs) // (BUNDLES_PER_WORKER * num_workers)
        dispatched = batches(manifest, runs, max(1, min(MAX_BUNDLE, fair)))
        bundle_of[dispatched.order] = dispatched.number + num_bundles
        num_bundles += len(dispatched)
        order.append(dispatched.order)
    if num_bundles == len(pending) and rounds is None:
        return None, None
    return _array(np.concatenate(order)), _array(bundle_of)


def _array(values: np.ndarray) -> array[int]:
    """The same numbers where Python reads single ones fastest."""
    return array("I", values.astype(np.uint32).tobytes())
