"""Small real specs on the shipped tiny models, shared by the trainer's tests."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from sweeps.spec import RunSpec, spec_from_dict


def package_file(path: str) -> Path:
    """A file or folder shipped inside an installed package, such as ``trainers/tiny/models/tiny-64``."""
    package, _, rest = path.partition("/")
    package_spec = importlib.util.find_spec(package)
    assert package_spec is not None
    assert package_spec.submodule_search_locations
    return Path(package_spec.submodule_search_locations[0]) / rest


def tiny_spec(base: str = "tiny-64", prompt: str = "47+38=", **groups: Any) -> RunSpec:
    """Ten steps of 64 rollouts on one problem, judged on 50 held-out items; keywords override groups."""
    data: dict[str, Any] = {
        "model": {"name": base, "path": f"pkg://trainers/tiny/models/{base}"},
        "example": {"name": "one", "prompts": [prompt]},
        "optim": {"lr": 2e-4},
        "sampling": {
            "temperature": 1.0,
            "top_p": 1.0,
            "repetition_penalty": 1.0,
            "max_new_tokens": 16,
        },
        "eval": {
            "name": "addition",
            "path": "pkg://trainers/tiny/data/addition_eval.jsonl",
            "pattern": "[;?]([^;?]*)$",
            "steps": [0, 10],
            "max_new_tokens": 12,
            "limit": 50,
        },
    }
    for group, values in groups.items():
        if isinstance(values, dict):
            data[group] = {**data.get(group, {}), **values}
        else:
            data[group] = values
    return spec_from_dict(data)
