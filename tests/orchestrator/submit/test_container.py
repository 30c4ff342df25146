"""Jobs of Slurm in an image: what shellcheck says of every combination, what is bound, what is refused."""

from __future__ import annotations

import dataclasses
import itertools
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.submit import render, render_nodes
from orchestrator.submit.container import check_container
from sweeps.spec.errors import UserError
from tests.orchestrator.submit.test_request import request

IMAGES = {
    "apptainer": "docker://ghcr.io/lab/emsweep:1",
    "singularity": "/shared/it's.sif",
    "pyxis": "ghcr.io#lab/emsweep:1",
}


@pytest.fixture(scope="module")
def plain():
    return request("cluster=slurm")


def job(plain, runtime: str | None, *, directory: str = "outputs/my place", part=render, **more) -> str:
    container = {"runtime": runtime, "image": IMAGES.get(runtime), "mounts": more.pop("mounts", [])}
    values = {**plain.job, "container": container, **more}
    return part(dataclasses.replace(plain, directory=directory, job=values))


def definition(text: str) -> list[str]:
    """The words of the container, before the shell fills in variables."""
    [line] = [line for line in text.splitlines() if line.startswith("container=(")]
    return shlex.split(line.removeprefix("container=(").removesuffix(")"))


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_shellcheck_has_nothing_to_say_of_any_combination(plain, tmp_path, every):
    tool = shutil.which("shellcheck", path=str(Path(sys.executable).parent))
    folders, mounts = ("outputs/my place", "/shared/it's"), ([], ["/data", "/a:/b:ro", "/c:rw"])
    for number, (runtime, gpus, directory, mounted, setup) in enumerate(
        itertools.product((None, *IMAGES), (0, 8), folders, mounts, (None, "module load x"))
    ):
        more = {"gpus_per_node": gpus, "setup": setup, "sbatch": ["--exclusive"] if gpus else []}
        mounted = mounted if runtime else []
        path = tmp_path / f"{number}.sh"
        path.write_text(job(plain, runtime, directory=directory, mounts=mounted, **more))
        nodes = job(
            plain, runtime, directory=directory, mounts=mounted, elastic=True, part=render_nodes, **more
        )
        path.with_suffix(".nodes.sh").write_text(nodes)
    scripts = sorted(map(str, tmp_path.glob("*.sh")))[::every]
    for script in scripts[::8]:
        assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    if tool is None:
        pytest.skip("shellcheck is not installed: pip install '.[dev]'")
    done = subprocess.run([tool, *scripts], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("runtime", ["apptainer", "singularity"])
def test_an_image_sees_the_folders_that_a_sweep_writes_to_and_those_that_are_asked_for(plain, runtime):
    words = definition(
        job(plain, runtime, directory="/shared/x", mounts=["/data", "/a:/b:ro"], gpus_per_node=0)
    )
    assert words[:2] == [runtime, "exec"]
    assert words[-1] == IMAGES[runtime]
    bound = [value for option, value in itertools.pairwise(words) if option == "--bind"]
    assert bound == ["$PWD", "$written", "/tmp", "/shared/x", "/data", "/a:/b:ro"]


def test_pyxis_gets_every_mount_with_its_place_and_the_variables_of_the_job(plain):
    words = definition(job(plain, "pyxis", mounts=["/data", "/a:/b:ro", "/c:ro"]))
    options = dict(word.removeprefix("--").split("=", 1) for word in words)
    assert options["container-image"] == IMAGES["pyxis"]
    assert options["container-mounts"].endswith("/tmp:/tmp,/data:/data,/a:/b:ro,/c:/c:ro")
    assert options["container-workdir"] == "$PWD"
    assert {"RAY_AUTH_TOKEN_PATH", "HF_HOME", *plain.environment} <= set(options["container-env"].split(","))


@pytest.mark.parametrize("runtime", IMAGES)
def test_no_command_of_ours_runs_outside_the_image(plain, runtime):
    text = job(plain, runtime) + job(plain, runtime, elastic=True, part=render_nodes)
    commands = re.findall(
        r"^.*(?<![\w-])(?:ray (?:start|health-check)|emsweep (?:launch|join)) .*$", text, re.MULTILINE
    )
    assert len(commands) >= (3 if runtime == "pyxis" else 4)
    for line in commands:
        is_step = runtime == "pyxis" and line.lstrip().startswith("on_nodes ")
        assert is_step or '"${container[@]}"' in line, line
    if runtime == "pyxis":
        assert re.search(r'^  srun .*"\$\{container\[@\]\}"', text, re.MULTILINE)


@pytest.mark.parametrize(
    ("runtime", "gpus", "there"), [("apptainer", 8, True), ("apptainer", 0, False), ("pyxis", 8, False)]
)
def test_drivers_of_gpus_are_brought_in_where_gpus_are_asked_for(plain, runtime, gpus, there):
    assert ("--nv" in definition(job(plain, runtime, gpus_per_node=gpus))) is there


def test_the_virtual_environment_is_for_jobs_without_an_image_and_set_up_lines_are_for_both(plain):
    assert "source .venv/bin/activate" in job(plain, None).splitlines()
    assert "activate" not in job(plain, "apptainer")
    for runtime in (None, "apptainer"):
        lines = job(plain, runtime, setup="module load apptainer").splitlines()
        assert "module load apptainer" in lines
        assert "source .venv/bin/activate" not in lines
        assert "activate" not in job(plain, runtime, setup="")


@pytest.mark.parametrize(
    ("container", "message"),
    [
        (
            {"runtime": "docker", "image": "a"},
            r"runtime='docker': choose one of apptainer, singularity, pyxis",
        ),
        ({"runtime": "aptainer", "image": "a"}, 'did you mean "apptainer"'),
        ({"runtime": "pyxis"}, r"container.image: is missing; give cluster.job.container.image="),
        ({"image": "/e.sif"}, r"container.runtime: is missing"),
        ({"mounts": ["/data"]}, r"container.runtime: is missing"),
        ({"runtime": "pyxis", "image": "--x"}, "must be one word"),
        ({"runtime": "pyxis", "image": "a\nb"}, "must be one word"),
        ({"runtime": "pyxis", "image": "a", "mounts": ["data"]}, "must be /folder"),
        ({"runtime": "pyxis", "image": "a", "mounts": ["/a:/b,/c"]}, "must be /folder"),
        ({"runtime": "pyxis", "image": "a", "mounts": ["/$(id)"]}, "must be /folder"),
        ({"runtime": "pyxis", "image": "a", "mounts": "/data"}, "must be a list of folders"),
        (
            {"runtime": "pyxis", "image": "a", "binds": []},
            r"container.binds: a container has runtime, image, mounts",
        ),
        ("apptainer", "a container has"),
    ],
)
def test_a_container_that_is_not_whole_or_leaves_its_line_is_refused(container, message):
    with pytest.raises(UserError, match=message):
        check_container(container)


@pytest.mark.parametrize(("key", "value"), [("directory", "/a:b"), ("scratch", "/a,b")])
def test_a_folder_that_no_runtime_can_bind_is_refused(plain, key, value):
    with pytest.raises(UserError, match="must have no colon or comma"):
        job(plain, "apptainer", **{key: value})


def test_keys_of_a_container_are_given_one_by_one_and_stay_out_of_the_launch_inside():
    words = ("cluster.job.container.runtime=apptainer", "cluster.job.container.image=/shared/e.sif")
    asked = request("cluster=slurm", *words)
    assert not any("container" in word for word in asked.command)
    assert definition(render(asked))[-1] == "/shared/e.sif"
