"""Builds an image's Python part without an engine: its instructions, in order, in a folder of this machine.

Paths that the image has at its root come to lie below the folder; system packages are taken as they are here.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.docker.test_docker import ROOT, instructions

INHERITED = re.compile("HOME|LANG|TMPDIR|PIP_.*|.*_PROXY|.*_proxy|SSL_.*|PYENV_VERSION")
"""Variables of this machine that a build may see: where packages come from."""

IMAGE_PATHS = re.compile(r"(?<![\w.])/(srv/emsweep|sweeps|scratch)\b")


class Build:
    """One image being built."""

    def __init__(self, dockerfile: Path, folder: Path) -> None:
        """Begin in an empty folder."""
        self._dockerfile, self._folder = dockerfile, folder
        self._place = folder
        self.environment = {k: v for k, v in os.environ.items() if INHERITED.fullmatch(k)}
        self.environment["PATH"] = os.environ["PATH"]
        self.ran: list[str] = []
        """Commands of `RUN` that were run."""

    def path(self, inside: str) -> Path:
        """Where a path of the image lies here."""
        return Path(self._moved(inside))

    def _moved(self, text: str) -> str:
        return IMAGE_PATHS.sub(lambda match: f"{self._folder}/{match[1]}", text)

    def run(self) -> None:
        """Follow the instructions."""
        for name, text in instructions(self._dockerfile):
            if name in ("ARG", "ENV"):
                for key, value in re.findall(r"(\w+)=(\S+)", text):
                    self.environment[key] = self._expand(self._moved(value))
            elif name == "WORKDIR":
                self._place = self.path(text)
                self._place.mkdir(parents=True, exist_ok=True)
            elif name == "COPY":
                *sources, _ = (word for word in text.split() if not word.startswith("--"))
                self._copy(sources)
            elif name == "RUN" and "apt-get" not in text:
                self._run(text)

    def _expand(self, value: str) -> str:
        return re.sub(r"\$(\w+)", lambda match: self.environment.get(match[1], ""), value)

    def _copy(self, sources: list[str]) -> None:
        """Copy files, or what git knows of the whole tree."""
        listed = subprocess.run(
            ["git", "ls-files", *sources], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        for name in listed.splitlines():
            if (ROOT / name).is_file():
                (self._place / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, self._place / name)
                shutil.copymode(ROOT / name, self._place / name)

    def _run(self, command: str) -> None:
        self.ran.append(command)
        self.call("bash", "-o", "pipefail", "-c", self._moved(self._with_python(command)))

    @staticmethod
    def _with_python(command: str) -> str:
        """The image's interpreter, or this one where that is not installed."""
        match = re.match(r"(python[\d.]*) -m venv", command)
        if not match or not subprocess.run([match[1], "-c", ""], capture_output=True, check=False).returncode:
            return command
        return command.replace(match[1], sys.executable, 1)

    def call(self, *words: str | Path, **more: str) -> str:
        """Run something as the container would and return what it prints."""
        done = subprocess.run(
            list(map(str, words)),
            cwd=self._place,
            env=self.environment | more,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        return done.stdout
