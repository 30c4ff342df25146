"""What the images' pip lines make, in a clean environment, and that it works."""

from __future__ import annotations

import json
import re

import pytest

from tests.docker.building import Build
from tests.docker.test_docker import IMAGES


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("dockerfile", IMAGES, ids=lambda p: p.name)
def test_every_line_of_an_image_runs_in_a_clean_environment_and_a_sweep_runs_in_it(dockerfile, tmp_path):
    build = Build(dockerfile, tmp_path)
    build.run()
    assert sum("pip install" in command for command in build.ran) == 4
    assert not list(tmp_path.rglob("*.egg-link"))
    pins = build.path("/srv/emsweep/constraints.txt").read_text()
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", pins, re.MULTILINE))
    held = {p["name"]: p["version"] for p in json.loads(build.call("pip", "list", "--format", "json"))}
    assert held["ray"] == pinned["ray"]
    assert held["torch"].split("+")[0] == pinned["torch"]
    build.call("pip", "check")
    entrypoint = build.path("/srv/emsweep/docker/entrypoint.sh")
    said = build.call(entrypoint, "launch", "sweep=noop", "sweep.n=20", "--pool", "local", "--yes", "--json")
    assert json.loads(said)["committed"] == 20
    assert build.path("/sweeps/outputs/noop/runs.parquet").is_file()
    build.call(build.path("/srv/emsweep/docker/healthcheck.sh"))
