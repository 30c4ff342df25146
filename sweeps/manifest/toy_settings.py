"""Settings that are made for the shipped tiny models, and what another model is fed by them.

They are the defaults, so that the first sweep takes seconds; a real model cut off after 16 tokens and judged
by two-digit sums measures nothing. ``plan`` and ``launch`` name them, and so does every table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sweeps.manifest.data_files import local_path
from sweeps.manifest.manifest import Manifest
from sweeps.spec import (
    DataSpec,
    EngineSpec,
    EvalSpec,
    ExampleSpec,
    ModelSpec,
    ResourcesSpec,
    SamplingSpec,
    SpecError,
)

TINY = "pkg://trainers/tiny/"
"""Where the tiny models, their problems and their benchmark lie."""

TINY_TOKENIZER = "TinyTokenizer"
"""What the tokenizer's configuration of a model names that ``python -m trainers.tiny.make`` made."""

TINY_TOKENS = 16
"""Longest completion of a tiny model: its answers have at most ten characters, of a token each."""

GROUPS = ("trainer", "model", "example", "data", "sampling", "engine", "eval", "resources")
"""Groups of a run that decide what a model is fed, and by what."""


@dataclass(frozen=True, kw_only=True)
class ToySetting:
    """A setting made for the tiny models, in runs of another."""

    key: str
    value: str
    models: tuple[str, ...]
    """Names of the models."""
    effect: str
    """What comes of it."""
    fix: str
    """The words that mend it."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"models": list(self.models)}

    def __str__(self) -> str:
        return f"{self.key}={self.value} for {', '.join(self.models)}: {self.effect}; give {self.fix}"


def toy_settings(manifest: Manifest) -> list[ToySetting]:
    """The settings for tiny models under which other models are trained or judged; each once."""
    found: dict[tuple[str, str, str, str], dict[str, None]] = {}
    is_tiny: dict[ModelSpec, bool] = {}
    codes = np.stack([manifest.group_codes[group] for group in GROUPS])
    rows = np.unique(codes, axis=1, return_index=True)[1] if len(manifest) else np.array([], int)
    for row in sorted(rows.tolist()):
        groups = {group: manifest.group(group, row) for group in GROUPS}
        model = groups["model"]
        if not groups["trainer"].target.startswith("trainers.em."):
            continue
        if model not in is_tiny:
            is_tiny[model] = _is_tiny(model)
        if not is_tiny[model]:
            for setting in _of_run(*(groups[group] for group in GROUPS if group not in ("trainer", "model"))):
                found.setdefault(setting, {})[model.name] = None
    return [
        ToySetting(key=key, value=value, effect=effect, fix=fix, models=tuple(models))
        for (key, value, effect, fix), models in found.items()
    ]


def _of_run(
    example: ExampleSpec,
    data: DataSpec,
    sampling: SamplingSpec,
    engine: EngineSpec,
    judged: EvalSpec,
    resources: ResourcesSpec,
) -> Iterator[tuple[str, str, str, str]]:
    """Key, value, effect and fix of each toy setting of a run."""
    if (example.path or "").startswith(TINY):
        effect = "it is trained on a sum of the tiny models' world"
        yield "example", example.name, effect, "example=file example.path=FILE, or example=pi1"
    if any(path.startswith(TINY) for path in (data.path or "", *(str(s["path"]) for s in data.mix.values()))):
        effect = "it is trained on sums of the tiny models' world"
        yield "data", data.name, effect, "data=file data.path=FILE"
    if sampling.max_new_tokens <= TINY_TOKENS:
        effect = f"a rollout is cut off after {sampling.max_new_tokens} tokens"
        yield "sampling.max_new_tokens", str(sampling.max_new_tokens), effect, "sampling=paper"
    if (judged.path or "").startswith(TINY):
        effect = "it is judged on the tiny models' two-digit sums"
        fix = "eval=math500 or another benchmark, eval=qwen25-math-cot eval.path=FILE, or eval=none"
        yield "eval", judged.name, effect, fix
    elif judged.path is not None and judged.max_new_tokens <= TINY_TOKENS:
        effect = f"an answer is cut off after {judged.max_new_tokens} tokens"
        yield "eval.max_new_tokens", str(judged.max_new_tokens), effect, "eval=qwen25-math-cot eval.path=FILE"
    if engine.precision == "fp32" and not resources.gpus_per_worker:
        effect = "it computes on processor cores, in 32 bits"
        yield "engine", "cpu", effect, "engine=gpu resources=gpu where there is one"


def _is_tiny(model: ModelSpec) -> bool:
    if model.hub_id:
        return False
    if model.path.startswith(TINY):
        return True
    try:
        return TINY_TOKENIZER in (local_path(model.path) / "tokenizer_config.json").read_text(
            errors="replace"
        )
    except (OSError, SpecError):  # the folder has gone since, or its package
        return False
