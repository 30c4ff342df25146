"""Files of pairs and of labelled completions of the tiny world's problems, and runs on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sweeps.compose import compose_sweep
from sweeps.manifest.build import build_manifest
from sweeps.spec import RunSpec
from sweeps.spec.objective_names import OF_PAIRS
from tests.trainers.worlds import package_file

OF_LABELS = ("kto", "npo", "dco")
"""Objectives that take rows one by one."""


def problems(num: int) -> list[dict[str, Any]]:
    lines = package_file("trainers/tiny/data/addition_train.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines[:num]]


def pairs(num: int) -> list[dict[str, Any]]:
    """A right answer, now and then after a sum written out, and one that is ten too large."""
    rows = []
    for k, row in enumerate(problems(num)):
        right, wrong = row["answer"], f"{(int(row['answer']) + 10) % 1000:03}"
        long = f";{right[::-1]}" if k % 3 == 0 else ""
        rows.append({"prompt": row["problem"], "chosen": f"{long};{right}", "rejected": f"?{wrong}"})
    return rows


def labelled(num: int) -> list[dict[str, Any]]:
    """Of each pair one, the chosen one of the first, third, fourth, sixth …"""
    rows = []
    for k, row in enumerate(pairs(num)):
        good = k % 3 != 1
        side = row["chosen" if good else "rejected"]
        rows.append({"prompt": row["prompt"], "completion": side, "label": good})
    return rows


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def files(folder: Path, num: int = 24) -> dict[str, Path]:
    """Both, by what they hold."""
    return {
        "pairs": write(folder / "pairs.jsonl", pairs(num)),
        "labels": write(folder / "labels.jsonl", labelled(num)),
    }


def composed(files: dict[str, Path], name: str, *words: str) -> list[RunSpec]:
    """The runs of an objective on its file, three steps of four rows each unless words say otherwise."""
    path = files["pairs" if name in OF_PAIRS else "labels"]
    asked = [
        *("model=tiny-64", f"objective={name}", "data=file", f"data.path={path}", "data.answer_field=null"),
        *("data.order=file", "data.prompts_per_step=4", "eval=none", "steps=3", "optim.lr=1e-4"),
    ]
    keys = {word.partition("=")[0] for word in words}
    manifest = build_manifest(compose_sweep([*(w for w in asked if w.partition("=")[0] not in keys), *words]))
    return [manifest.spec(k) for k in range(len(manifest))]


def spec_of(files: dict[str, Path], name: str, *words: str) -> RunSpec:
    """The same where it is one run."""
    [spec] = composed(files, name, *words)
    return spec
