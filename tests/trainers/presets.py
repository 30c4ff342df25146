"""The shipped objectives as the trainer sees them, without composing a whole run."""

from __future__ import annotations

from typing import Any

import yaml

from sweeps.spec import ObjectiveSpec, group_from_dict
from tests.trainers.worlds import package_file

TAU = 0.7
"""Training temperature where an option takes the sampling temperature."""

ANSWER = "[;?]([^;?]*)$"
"""How the tiny world's answers are cut out, where an option takes the benchmark's pattern."""


def preset(name: str, **changes: Any) -> ObjectiveSpec:
    """The objective of ``conf/objective/<name>.yaml``; keywords override its keys."""
    return group_from_dict("objective", preset_dict(name) | changes)


def preset_dict(name: str) -> dict[str, Any]:
    """The same as plain data."""
    written = yaml.safe_load(package_file(f"sweeps/conf/objective/{name}.yaml").read_text())
    references = {"${sampling.temperature}": TAU, "${eval.pattern}": ANSWER}
    return {k: references.get(v, v) if isinstance(v, str) else v for k, v in written.items()}
