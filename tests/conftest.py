"""Which tests share a process when several processes run them (``pytest -n 2 --dist loadgroup``)."""

from __future__ import annotations

from pathlib import Path

import pytest

TOGETHER = ("browser", "gpu")
"""Folders whose tests share what is dear to start, or a device; elsewhere a module's tests stay together."""

FIRST = ("chaos", "browser", "integration", "docker", "gpu", "trainers", "orchestrator")
"""Folders with long modules: begun last, one of them would run alone at the end."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    if not hasattr(config, "workerinput"):
        return
    tests = Path(__file__).parent
    places = {item: item.path.relative_to(tests) for item in items}
    for item, place in places.items():
        group = place.parts[0] if place.parts[0] in TOGETHER else str(place)
        item.add_marker(pytest.mark.xdist_group(group))
    rank = {folder: number for number, folder in enumerate(FIRST)}
    items.sort(key=lambda item: rank.get(places[item].parts[0], len(FIRST)))
