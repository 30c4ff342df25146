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
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from sweeps.manifest.data_files import local_path
from sweeps.manifest.hf_cache import snapshot
from sweeps.manifest.manifest import Manifest
from sweeps.manifest.row_fields import items_of
from sweeps.manifest.training_rows import TrainingRow
from sweeps.manifest.training_set import training_set
from sweeps.spec import (
    DataSpec,
    EvalSpec,
    ExampleSpec,
    ModelSpec,
    ObjectiveSpec,
    SamplingSpec,
    group_to_dict,
)
from sweeps.spec.errors import UserError, cut

SHIPPED = "pkg://trainers/tiny/models/"
"""Where the shipped models lie."""

GROUPS = ("trainer", "model", "example", "data", "objective", "sampling", "engine", "eval")
"""Groups of a run that decide what a model is fed."""

CHECK_S = 300.0
"""Seconds one check may take: importing transformers takes 5 to 30 on a busy machine."""

STAND_IN = "1 + 1 = ?"
"""Question of a benchmark that is not here yet."""

MAX_SHOWN = 3
"""Problems told in one message; the command ``check`` lists all."""


@dataclass(frozen=True, kw_only=True)
class ModelUse:
    """A model folder and the ways in which runs ask it."""

    model: ModelSpec
    folder: Path
    uses: tuple[tuple[tuple[str, Any], ...], ...]
    """Fields of :class:`trainers.model.prompt_check.Use`, each use once."""
    attentions: tuple[str, ...]
    """Values of ``engine.attention`` that its runs ask for."""


def model_uses(manifest: Manifest, *, shipped: bool = False) -> list[ModelUse]:
    """Each model of a sweep that lies here, shipped ones if asked for, with every way in which its runs ask
    it.
    """
    codes = np.stack([manifest.group_codes[group] for group in GROUPS])
    rows = np.unique(codes, axis=1, return_index=True)[1]
    by_model: dict[ModelSpec, dict[tuple[tuple[str, Any], ...], None]] = {}
    attentions: dict[ModelSpec, dict[str, None]] = {}
    for row in sorted(rows.tolist()):
        groups = {group: manifest.group(group, row) for group in GROUPS}
        is_ours = groups["model"].path.startswith(SHIPPED)
        if groups["trainer"].target.startswith("trainers.em.") and (shipped or not is_ours):
            uses = by_model.setdefault(groups["model"], {})
            uses |= dict.fromkeys(
                _uses(*(groups[g] for g in ("example", "data", "objective", "sampling", "eval")))
            )
            attentions.setdefault(groups["model"], {})[groups["engine"].attention] = None
    located = ((model, _folder(model), uses) for model, uses in by_model.items())
    return [
        ModelUse(model=m, folder=folder, uses=tuple(uses), attentions=tuple(attentions[m]))
        for m, folder, uses in located
        if folder
    ]


def _uses(
    example: ExampleSpec,
    data: DataSpec,
    objective: ObjectiveSpec,
    sampling: SamplingSpec,
    evaluation: EvalSpec,
) -> Iterable[tuple[tuple[str, Any], ...]]:
    if example.prompts:
        longest = max(example.prompts, key=len)
        text = example.template.replace("{problem}", longest)
        yield _use("example", example, example.system, sampling.max_new_tokens, text)
    if data.is_set:
        opened = training_set(data)
        if objective.draws_rollouts:
            yield _use("data", data, *_asked(data, opened.longest(1)[0], sampling.max_new_tokens))
        if objective.targets:
            [row] = opened.longest(1, given=True)
            cuts = data.overlong == "truncate"
            given = {"given": _longest_given(row), "max_tokens": data.max_tokens, "cuts": cuts}
            yield _use("data", data, *_asked(data, row, 0)) + tuple(given.items())
    for system, questions in _questions(evaluation).items():
        longest, shortest = (
            evaluation.template.replace("{problem}", pick(questions, key=len)) for pick in (max, min)
        )
        yield _use("eval", evaluation, system, evaluation.max_new_tokens, longest, shortest)


def _asked(data: DataSpec, row: TrainingRow, max_new_tokens: int) -> tuple[str | None, int, str]:
    """System message, tokens that may follow, and text of a row's prompt."""
    system = row.system if row.system is not None else data.system
    return system, max_new_tokens, data.template.replace("{problem}", row.prompt)


def _longest_given(row: TrainingRow) -> str:
    """The longest text that a row gives to train on, with the turns before it where there are several."""
    before = "".join(turn["content"] for turn in row.given.context[:-1])
    texts = [
        c if isinstance(c, str) else "".join(turn["content"] for turn in c) for c in row.given.completions
    ]
    return before + max(texts, key=len)


def _use(
    key: str,
    group: ExampleSpec | DataSpec | EvalSpec,
    system: str | None,
    max_new_tokens: int,
    text: str,
    shortest: str | None = None,
) -> tuple[tuple[str, Any], ...]:
    return tuple(
        {
            "key": key,
            "format": group.format,
            "system": system,
            "system_role": group.system_role,
            "text": text,
            "shortest": shortest,
            "max_new_tokens": max_new_tokens,
        }.items()
    )


@lru_cache(maxsize=16)
def _questions(evaluation: EvalSpec) -> dict[str | None, list[str]]:
    """Questions of a benchmark by their system message; a stand-in where its file is not here yet."""
    if evaluation.path is None:
        return {}
    if not local_path(evaluation.path).is_file():
        return {evaluation.system: [STAND_IN]}
    questions: dict[str | None, list[str]] = {}
    for item in items_of(evaluation):
        system = evaluation.system if evaluation.system is not None else item.system
        questions.setdefault(system, []).append(item.question)
    return questions


def _folder(model: ModelSpec) -> Path | None:
    folder = snapshot(model.hub_id, model.revision or "main") if model.hub_id else local_path(model.path)
    return folder if folder and folder.is_dir() else None


def problems_of(uses: Sequence[ModelUse]) -> list[dict[str, Any]]:
    """What is wrong with each model: ``model, key, value, rule, fix, mended``; empty if nothing."""
    return examine(uses)[0]


def examine(uses: Sequence[ModelUse]) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """What is wrong with each model, and what was looked at: ``model, what, found``."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        answers = list(zip(uses, pool.map(_ask, uses), strict=True))
    problems = [{"model": use.model.name, **p} for use, answer in answers for p in answer["problems"]]
    checked = [
        {"model": use.model.name, "what": what, "found": found}
        for use, answer in answers
        for what, found in answer["checked"]
    ]
    return problems, checked


def _ask(use: ModelUse) -> Mapping[str, Any]:
    request = {
        "folder": str(use.folder),
        "uses": [dict(fields) for fields in use.uses],
        "trust_remote_code": use.model.trust_remote_code,
        "attentions": use.attentions,
    }
    answer: Mapping[str, Any] | str = _run("trainers.model.folder_check", request)
    if not isinstance(answer, str):
        return answer
    problem = {
        "key": "model.path",
        "value": str(use.folder),
        "rule": f"the check of this model ended with {cut(answer)!r}",
        "fix": "see `emsweep doctor`",
        "mended": False,
    }
    return {"problems": [problem], "checked": []}


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


def examine_golds(manifest: Manifest) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Benchmarks of a sweep with golds that no answer equals, in the forms of :func:`examine`."""
    rows = np.unique(manifest.group_codes["eval"], return_index=True)[1]
    problems: list[dict[str, Any]] = []
    checked: list[dict[str, str]] = []
    for row in sorted(rows.tolist()):
        spec = manifest.group("eval", row)
        if spec.path is None:
            continue
        answer = _run("trainers.evaluation.gold_check", group_to_dict(spec))
        if isinstance(answer, str):
            rule, fix = f"its golds cannot be read ({cut(answer)})", "mend the file or the fields' names"
        elif numbers := answer["unreadable"]:
            rule = (
                f"the gold answers of items {cut(str(numbers))} do not equal themselves: no answer is right"
            )
            fix = f"mend them, or eval.drop_items={cut(str(numbers))}"
        else:
            found = f"{answer['items']:,} of {spec.name}, each equals itself by the rule {spec.grader}"
            checked.append({"model": "", "what": "eval golds", "found": found})
            continue
        about = {"model": "", "key": "eval.path", "value": spec.path, "mended": False}
        problems.append(about | {"rule": rule, "fix": fix})
    return problems, checked


def _run(module: str, request: Mapping[str, Any]) -> Any:
    """The JSON answer of one of our modules, run in a process of its own; the last line of its error as
    text.
    """
    command = [sys.executable, "-m", module]
    try:
        done = subprocess.run(
            command, input=json.dumps(request), capture_output=True, text=True, timeout=CHECK_S
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {CHECK_S:g} s: a chat template or a pattern that never ends"
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["no word"])[-1]
    return json.loads(done.stdout)
