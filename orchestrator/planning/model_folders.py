"""Model folders against what a sweep will feed them, before any run starts.

The check imports transformers, so it runs in a process of its own (:mod:`trainers.model.folder_check`), once
for each different model and use. Shipped models are not checked: the tests do that.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sweeps.manifest.data_files import local_path
from sweeps.manifest.hf_cache import snapshot
from sweeps.manifest.manifest import Manifest
from sweeps.spec import EvalSpec, ExampleSpec, ModelSpec, SamplingSpec, group_to_dict
from sweeps.spec.errors import UserError

SHIPPED = "pkg://trainers/tiny/models/"
"""Where the shipped models lie."""

GROUPS = ("trainer", "model", "example", "sampling", "eval")
"""Groups of a run that decide what a model is fed."""

CHECK_S = 300.0
"""Seconds one check may take: importing transformers takes 5 to 30 on a busy machine."""

MAX_SHOWN = 3
"""Problems told in one message; the command ``check`` lists all."""


@dataclass(frozen=True, kw_only=True)
class ModelUse:
    """A model folder and the ways in which runs ask it."""

    model: ModelSpec
    folder: Path
    uses: tuple[tuple[tuple[str, Any], ...], ...]
    """Fields of :class:`trainers.model.folder_check.Use`, each use once."""


def model_uses(manifest: Manifest, *, shipped: bool = False) -> list[ModelUse]:
    """Each model of a sweep that lies here, shipped ones if asked for, with every way in which its runs ask
    it.
    """
    codes = np.stack([manifest.group_codes[group] for group in GROUPS])
    rows = np.unique(codes, axis=1, return_index=True)[1]
    by_model: dict[ModelSpec, dict[tuple[tuple[str, Any], ...], None]] = {}
    for row in sorted(rows.tolist()):
        groups = {group: manifest.group(group, row) for group in GROUPS}
        is_ours = groups["model"].path.startswith(SHIPPED)
        if groups["trainer"].target.startswith("trainers.em.") and (shipped or not is_ours):
            uses = by_model.setdefault(groups["model"], {})
            uses |= dict.fromkeys(_uses(groups["example"], groups["sampling"], groups["eval"]))
    located = ((model, _folder(model), uses) for model, uses in by_model.items())
    return [ModelUse(model=m, folder=folder, uses=tuple(uses)) for m, folder, uses in located if folder]


def _uses(
    example: ExampleSpec, sampling: SamplingSpec, evaluation: EvalSpec
) -> Iterable[tuple[tuple[str, Any], ...]]:
    if example.prompts:
        longest = max(example.prompts, key=len)
        yield tuple(
            {
                "key": "example",
                "format": example.format,
                "system": example.system,
                "text": example.template.replace("{problem}", longest),
                "max_new_tokens": sampling.max_new_tokens,
            }.items()
        )
    if evaluation.path is not None:
        yield tuple(
            {
                "key": "eval",
                "format": evaluation.format,
                "system": evaluation.system,
                "text": evaluation.template.replace("{problem}", "1 + 1 = ?"),
                "max_new_tokens": evaluation.max_new_tokens,
            }.items()
        )


def _folder(model: ModelSpec) -> Path | None:
    folder = snapshot(model.hub_id, model.revision or "main") if model.hub_id else local_path(model.path)
    return folder if folder and folder.is_dir() else None


def problems_of(uses: Sequence[ModelUse]) -> list[dict[str, Any]]:
    """What is wrong with each model: ``model, key, value, rule, mended``; empty if nothing."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        answers = list(pool.map(_ask, uses))
    return [
        {"model": use.model.name, **problem}
        for use, found in zip(uses, answers, strict=True)
        for problem in found
    ]


def _ask(use: ModelUse) -> list[Mapping[str, Any]]:
    request = {
        "folder": str(use.folder),
        "uses": [dict(fields) for fields in use.uses],
        "trust_remote_code": use.model.trust_remote_code,
    }
    answer = _run("trainers.model.folder_check", request)
    if isinstance(answer, str):
        rule = f"the check of this model ended with {answer!r}"
        return [
            {
                "key": "model.path",
                "value": str(use.folder),
                "rule": rule,
                "fix": "see `emsweep doctor`",
                "mended": False,
            }
        ]
    return answer


def require_usable_models(manifest: Manifest, *, run_code: bool = False) -> list[str]:
    """Refuse a sweep whose models cannot be used as its runs ask them.

    Args:
        manifest: the runs.
        run_code: whether the code of models with ``trust_remote_code`` may run; without it they are passed
        over.

    Returns:
        What is mended when a model is loaded, for people.

    Raises:
        UserError: with the first problems: value, rule and fix.
    """
    found = problems_of([u for u in model_uses(manifest) if run_code or not u.model.trust_remote_code])
    told = [
        (f"{p['key']}={p['value']!r} (model {p['model']}): {p['rule']}; {p['fix']}", p["mended"])
        for p in found
    ]
    refused = [text for text, mended in told if not mended]
    if refused:
        more = f" (and {len(refused) - MAX_SHOWN} more)" if len(refused) > MAX_SHOWN else ""
        raise UserError("; ".join(refused[:MAX_SHOWN]) + more)
    return [text for text, _ in told]


def gold_problems(manifest: Manifest) -> list[dict[str, Any]]:
    """Benchmarks of a sweep with golds that no answer equals, in the form of :func:`problems_of`."""
    rows = np.unique(manifest.group_codes["eval"], return_index=True)[1]
    found: list[dict[str, Any]] = []
    for row in sorted(rows.tolist()):
        spec = manifest.group("eval", row)
        if spec.path is None:
            continue
        answer = _run("trainers.evaluation.gold_check", group_to_dict(spec))
        if isinstance(answer, str):
            found.append(
                {"rule": f"its golds cannot be read ({answer})", "fix": "mend the file or the fields' names"}
            )
        elif numbers := answer["unreadable"]:
            rule = (
                f"the gold answers of items {numbers} do not equal themselves, so that no answer "
                "is ever right"
            )
            found.append({"rule": rule, "fix": f"mend them, or eval.drop_items={numbers}"})
        if found and "key" not in found[-1]:
            found[-1] |= {"model": "", "key": "eval.path", "value": spec.path, "mended": False}
    return found


def _run(module: str, request: Mapping[str, Any]) -> Any:
    """The JSON answer of one of our modules, run in a process of its own; the last line of its error as
    text.
    """
    command = [sys.executable, "-m", module]
    done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, timeout=CHECK_S)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["no word"])[-1]
    return json.loads(done.stdout)
