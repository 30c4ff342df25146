"""What is built from the tree can be installed where nothing is, and works there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = ("3.11", "3.12", "3.13")
SOURCE_ONLY = ("deepspeed", "antlr4-python3-runtime")
"""Requirements published as source only; pip resolves those for its own Python, so they are built first."""

OFFLINE = re.compile(r"ConnectionError|NewConnectionError|Could not fetch URL|Temporary failure in name")


def call(*command: str | Path, cwd: Path, timeout_s: int = 300, **changed: str) -> str:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHONPATH", "EMSWEEP"))}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=kept | changed,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if done.returncode and OFFLINE.search(done.stderr):
        pytest.skip("the package index is out of reach")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def build(tree: Path, target: Path, *kinds: str) -> None:
    options = [word for kind in kinds for word in ("-t", kind)]
    call(sys.executable, "-m", "hatchling", "build", *options, "-d", target, cwd=tree)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """Wheel and sdist of the tree as it is committed, or about to be: ignored files have no part in it."""
    tree, target = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("dist")
    listed = call("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", cwd=ROOT)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes((ROOT / name).read_bytes())
    build(tree, target, "wheel", "sdist")
    return target


def names_in(wheel: Path) -> set[str]:
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


def test_a_wheel_made_of_the_sdist_holds_what_the_one_made_of_the_tree_does(built, tmp_path):
    [sdist], [wheel] = built.glob("*.tar.gz"), built.glob("*.whl")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    [tree] = tmp_path.iterdir()
    build(tree, tmp_path / "dist", "wheel")
    [again] = (tmp_path / "dist").glob("*.whl")
    assert names_in(again) == names_in(wheel)


def test_the_sdist_can_be_tested_and_documented(built):
    [sdist] = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"tests/conftest.py", "docs/index.md", "mkdocs.yml", "Makefile", "constraints.txt"} <= names


def test_every_package_says_that_it_is_typed(built):
    [wheel] = built.glob("*.whl")
    packages = {name.partition("/")[0] for name in names_in(wheel)} - {"hydra_plugins"}
    assert len(packages) == 5
    assert {f"{package}/py.typed" for package in packages} <= names_in(wheel)


def test_the_metadata_names_pages_licence_and_pythons_by_known_classifiers():
    from trove_classifiers import classifiers

    assert set(PROJECT["classifiers"]) <= set(classifiers)
    assert {f"Programming Language :: Python :: {version}" for version in PYTHONS} <= set(
        PROJECT["classifiers"]
    )
    assert PROJECT["urls"]
    assert all(url.startswith("https://") for url in PROJECT["urls"].values())
    assert (ROOT / PROJECT["readme"]).is_file()


def test_the_changelog_has_a_section_for_the_version_and_for_what_is_not_released():
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert headings[1].split(" - ")[0] == PROJECT["version"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ - \d{4}-\d\d-\d\d", h) for h in headings[1:])


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_wheel_proves_itself_in_an_empty_environment(built, tmp_path):
    [wheel] = built.glob("*.whl")
    call(sys.executable, "-m", "venv", tmp_path / "env", cwd=tmp_path)
    scripts = tmp_path / "env" / "bin"
    call(scripts / "pip", "install", "--quiet", wheel, cwd=tmp_path, timeout_s=1200)
    work = tmp_path / "work"
    work.mkdir()
    answer = json.loads(call(scripts / "emsweep", "doctor", "--smoke", "--json", cwd=work))
    assert [c["name"] for c in answer["checks"] if c["name"].startswith("smoke") and c["ok"]] == [
        "smoke launch",
        "smoke verify",
        "smoke table",
    ]
    begun = json.loads(call(scripts / "emsweep", "init", "mine", "--json", cwd=work))
    path = f"{scripts}{os.pathsep}{os.environ['PATH']}"
    call("bash", "-c", f"{begun['launch']} --pool inline", cwd=work, PATH=path)
    code = "from emsweep import open_sweep; print(open_sweep('mine/results').counts())"
    assert call(scripts / "python", "-c", code, cwd=work).split() == ["{'done':", "12}"]


@pytest.fixture(scope="module")
def source_only(built) -> Path:
    """Wheels of what is published as source."""
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    asked = [f"{name}=={pins[name]}" for name in SOURCE_ONLY]
    call(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "-w",
        built / "source",
        *asked,
        cwd=built,
    )
    return built / "source"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("version", PYTHONS)
@pytest.mark.parametrize(
    "extras",
    [tuple(e for e in PROJECT["optional-dependencies"] if e != "vllm"), ("vllm",)],
    ids=["all but vllm", "vllm"],
)
def test_the_extras_resolve_on_every_python(built, source_only, tmp_path, version, extras):
    [wheel] = built.glob("*.whl")
    report = tmp_path / "report.json"
    options = ["--dry-run", "--quiet", "--python-version", version, "--only-binary=:all:"]
    places = ["--target", tmp_path / "target", "--find-links", source_only, "--report", report]
    asked = f"{wheel}[{','.join(extras)}]"
    call(sys.executable, "-m", "pip", "install", *options, *places, asked, cwd=tmp_path, timeout_s=560)
    chosen = {entry["metadata"]["name"].lower() for entry in json.loads(report.read_text())["install"]}
    assert {"emsweep", "torch", "ray", "deepspeed"} <= chosen
