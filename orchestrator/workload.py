"""A manifest as the scheduler sees it."""

from __future__ import annotations

from orchestrator.backlog import Group, Workload
from orchestrator.events import Shape
from sweeps.manifest import Manifest
from sweeps.spec import ResourcesSpec


def shape_of(resources: ResourcesSpec) -> Shape:
    """What a worker must occupy for these resources."""
    return Shape(
        world_size=resources.world_size,
        gpus=resources.gpus_per_worker,
        cpus=resources.cpus_per_worker,
        memory_gib=resources.memory_gib,
    )


def workload_of(manifest: Manifest) -> Workload:
    """Group a manifest's runs by shape and base model; linear in the runs, one lookup each."""
    models, resources = manifest.group_codes["model"], manifest.group_codes["resources"]
    numbers: dict[tuple[int, int], int] = {}
    groups: list[Group] = []
    group_of = []
    for index, key in enumerate(zip(models.tolist(), resources.tolist(), strict=True)):
        number = numbers.get(key)
        if number is None:
            number = numbers[key] = len(groups)
            needs = manifest.group("resources", index)
            groups.append(
                Group(
                    shape=shape_of(needs),
                    affinity=manifest.group("model", index).name,
                    timeout_s=needs.timeout_s,
                )
            )
        group_of.append(number)
    return Workload(groups=groups, group_of=group_of)
