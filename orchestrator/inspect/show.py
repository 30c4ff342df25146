"""All that is known of one run: its configuration, what it measured, its attempts, what it printed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestrator.inspect.replay import find_run, stored_result
from orchestrator.inspect.status import run_story, story_text
from orchestrator.store.layout import Layout
from orchestrator.store.opening import open_to_look
from orchestrator.worker.run_markers import output_of
from sweeps.manifest.manifest import Manifest
from sweeps.spec import GROUPS, RunSpec, spec_to_dict
from sweeps.spec.errors import UserError
from sweeps.spec.text import label

MAX_LINES = 10_000
"""Lines of a run's output that are kept at most, its last ones."""

OF_MODELS = ("model", "example", "data", "sampling", "eval")
"""Groups that the shipped trainers read; for an own trainer they hold what the sweep's defaults say."""


def run_shown(directory: Path, text: str, lines: int = MAX_LINES) -> dict[str, Any]:
    """A run as plain values: what ``status --run`` says of it, with configuration, metrics and output.

    Args:
        directory: of the sweep.
        text: the run's id, its first digits, or its name.
        lines: of its output, from the end.

    Raises:
        UserError: when the directory is not a sweep, or none or several runs match.
    """
    story = run_story(directory, text)
    opened = open_to_look(directory)
    layout, manifest = opened.layout, opened.manifest
    index = find_run(manifest, story["run_id"])
    return {
        **story,
        "axes": {column.key: column.values[column.codes[index]] for column in manifest.columns},
        "config": spec_to_dict(manifest.spec(index)),
        **_result(layout, manifest, index),
        "output": _output(layout, story, lines),
    }


def shown_text(shown: Mapping[str, Any]) -> str:
    """A run for people: of its configuration what differs from the defaults."""
    parts = [story_text(dict(shown))]
    parts += _section("axes", (f"{key} = {label(value)}" for key, value in shown["axes"].items()))
    parts += _section("metrics", (f"{key} = {label(value)}" for key, value in shown["metrics"].items()))
    if shown["steps"]:
        parts.append(f"steps: {shown['steps']} rows, see emsweep table or steps.parquet")
    changed = _changed(shown["config"], shown["axes"])
    parts += _section("configuration, where it differs from the defaults", changed)
    parts += _section("output", (line["text"] for line in shown["output"]))
    return "\n".join(parts)


def _result(layout: Layout, manifest: Manifest, index: int) -> dict[str, Any]:
    """What the run measured; nothing where it has no result, or none that can be read."""
    try:
        result = stored_result(layout, manifest, index)
    except UserError:
        return {"metrics": {}, "steps": 0, "layout": {}}
    return {"metrics": dict(result.metrics), "steps": len(result.steps), "layout": dict(result.layout)}


def _output(layout: Layout, story: Mapping[str, Any], lines: int) -> list[dict[str, Any]]:
    """What the attempts printed, in the logs of the workers that had them, the last lines."""
    workers = dict.fromkeys(attempt["worker"] for attempt in story["attempts"])
    printed = (
        {"attempt": line.attempt, "worker": worker, "text": line.text}
        for worker in workers
        for line in output_of(layout.worker_logs / f"{worker}.log", [story["run_id"]])
    )
    return list(deque(printed, maxlen=lines))


def _changed(config: Mapping[str, Any], axes: Mapping[str, Any]) -> Iterator[str]:
    defaults, varied = spec_to_dict(RunSpec()), {key.partition(".")[0] for key in axes}
    own = not config["trainer"]["target"].startswith("trainers.")
    for group in GROUPS:
        if own and group in OF_MODELS and group not in varied:
            continue
        for key, value in config[group].items():
            if value != defaults[group].get(key):
                yield f"{group}.{key} = {label(value)}"
    yield from (f"{key} = {config[key]}" for key in ("steps", "seed") if config[key] != defaults[key])


def _section(title: str, lines: Iterator[str]) -> list[str]:
    listed = [f"  {line}" for line in lines]
    return [f"{title}:", *listed] if listed else []
