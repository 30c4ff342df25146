"""The rooms of the trainers have floors: imports go down, never round."""

from __future__ import annotations

from functools import cache

import grimp

HIGHEST_FLOOR = 7


def test_rooms_import_downwards_only_and_pile_up_seven_floors_high():
    graph = grimp.build_graph("trainers", exclude_type_checking_imports=True)
    below: dict[str, set[str]] = {}
    for module in graph.modules:
        rooms = below.setdefault(room_of(module), set())
        rooms |= {room_of(other) for other in graph.find_modules_directly_imported_by(module)}

    @cache
    def floor(room: str, path: tuple[str, ...] = ()) -> int:
        assert room not in path, f"a circle: {' -> '.join((*path, room))}"
        return 1 + max((floor(other, (*path, room)) for other in below[room] - {room}), default=0)

    floors = {room: floor(room) for room in below}
    assert floors["trainers.step"] > floors["trainers.engine"] > floors["trainers.model"]
    assert max(floors.values()) <= HIGHEST_FLOOR, floors


def room_of(module: str) -> str:
    """The folder or the module right below the package; the package's own ``__init__`` is one too."""
    return ".".join(module.split(".")[:2])
