"""Fenced blocks of the pages, and how one is run.

The language says what a block is, words after it how it is treated:

```` ```python title="train.py" ````   a file of that name, written into the page's folder
```` ```sh ````                        run by bash in that folder; a command that fails fails the page
```` ```python ````                    executed; a page's blocks share their names
```` ```text title="output" ````       what the commands before it print, but for numbers and ``…``
```` ```sh data-needs="a GPU" ````     not run, and counted with its reason
```` ```sh data-package="trl" ````     run where that package is installed
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "docker" / "README.md",
    *sorted(p for p in (ROOT / "docs").rglob("*.md") if p.parent.name != "decisions"),
]
"""Pages whose blocks are run."""

CODE = ("sh", "python", "yaml", "json")
"""Languages that are run or read; ``text`` and ``mermaid`` are for people."""

TIMEOUT_S = 240
"""Longest that one block may take on a busy machine."""

_FENCE = re.compile(r"^( *)(`{3,})([^`\n]*)\n(.*?)^\1\2 *$", re.DOTALL | re.MULTILINE)
_WORD = re.compile(r'([\w-]+)="([^"]*)"')


@dataclass(frozen=True, kw_only=True)
class Block:
    """One fenced block."""

    page: Path
    line: int
    language: str
    words: dict[str, str] = field(default_factory=dict)
    """What stands behind the language."""
    text: str

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def missing(self) -> str:
        """Why the block cannot be run here; empty where it can."""
        if "data-needs" in self.words:
            return self.words["data-needs"]
        package = self.words.get("data-package", "")
        lacking = [name for name in package.split(",") if name and importlib.util.find_spec(name) is None]
        return f"{', '.join(lacking)} installed" if lacking else ""


def blocks_of(page: Path) -> list[Block]:
    """Fenced blocks of a page in order."""
    text = page.read_text()
    found = []
    for match in _FENCE.finditer(text):
        language, _, rest = match[3].strip().partition(" ")
        indent = len(match[1])
        body = "".join(line[indent:] if line.strip() else line for line in match[4].splitlines(keepends=True))
        line = text.count("\n", 0, match.start()) + 1
        found.append(
            Block(page=page, line=line, language=language, words=dict(_WORD.findall(rest)), text=body)
        )
    return found


class Folder:
    """Where a page's blocks run, one after the other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: dict[str, Any] = {}
        self.printed = ""

    def run(self, block: Block) -> None:
        """Run one block; raises ``AssertionError`` with what it printed when it fails."""
        if name := block.words.get("title", "" if block.language != "text" else "-"):
            if block.language != "text":
                target = self.path / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(block.text)
            elif name == "output":
                self._compare(block)
            return
        if block.language == "sh":
            self.printed = self._bash(block)
        elif block.language == "python":
            self._python(block)
        elif block.language == "yaml":
            yaml.safe_load(block.text)
        elif block.language == "json":
            json.loads(block.text)

    def _bash(self, block: Block) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.text],
            cwd=self.path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        assert done.returncode == 0, f"{block.where}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def _python(self, block: Block) -> None:
        here, known = Path.cwd(), set(sys.modules)
        os.chdir(self.path)
        sys.path.insert(0, str(self.path))
        try:
            exec(compile(block.text, block.where, "exec"), self.names)
        finally:
            os.chdir(here)
            sys.path.remove(str(self.path))
            for name in set(sys.modules) - known:  # the page's own modules are gone with its folder
                if str(getattr(sys.modules[name], "__file__", "")).startswith(f"{self.path}{os.sep}"):
                    del sys.modules[name]

    def _compare(self, block: Block) -> None:
        printed = [_shape(line) for line in self.printed.splitlines()]
        absent = [
            line
            for line in block.text.splitlines()
            if line.strip() not in ("", "…") and not any(map(_pattern(line).fullmatch, printed))
        ]
        assert not absent, f"{block.where}: is not printed: {absent}\nbut: {self.printed}"


def environment() -> dict[str, str]:
    """Of a shell with emsweep at hand, this tree's."""
    scripts = str(Path(sys.executable).parent)
    ours = (str(ROOT), str(ROOT / "orchestrator" / "hydra_launcher" / "plugin"))
    path = os.pathsep.join([*ours, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {
        **os.environ,
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": path,
        "COLUMNS": "100",
        "HYDRA_FULL_ERROR": "0",
    }


def _pattern(line: str) -> re.Pattern[str]:
    """A line of a page as what may be printed: ``…`` stands for anything."""
    return re.compile(".*".join(re.escape(_shape(piece)) for piece in line.split("…")))


def _shape(line: str) -> str:
    """A line without its numbers, and with one space where there are several."""
    return re.sub(r"[─ ]+", " ", re.sub(r"[-+]?[\d.,]+(?:e-?\d+)?", "0", line)).strip()
