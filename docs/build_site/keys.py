"""The page of every key, made from the dataclasses of ``sweeps.spec``: its meaning, its unit, its default.

What a key means is the docstring under its field, read from the source; nothing is written twice.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
import textwrap
from pathlib import Path
from typing import Any

import sweeps
from orchestrator.planning.cluster import _TUNABLE
from orchestrator.scheduling.config import SchedulerConfig
from orchestrator.scheduling.retry import RetryPolicy
from sweeps.spec.identity import key_of, plain
from sweeps.spec.run_spec import GROUPS, RunSpec, group_type

CONF = Path(sweeps.__file__).parent / "conf"

UNITS = {
    "_per_s": "1/s",
    "_s": "s",
    "_gib": "GiB",
    "_nats": "nats",
    "_tokens": "tokens",
    "_steps": "steps",
    "_fraction": "share of the steps",
    "_per_worker": "a process",
}
"""Ends of names and the units they stand for, the longest match first."""

INTRODUCTION = """# Every key

A run's configuration is the groups below, `steps` and `seed`. Any of them is set in a sweep file
(`optim: {lr: 1e-4}`), on the command line (`optim.lr=1e-4`), or varied as an axis (`optim.lr: [1e-4, 2e-4]`).
A group also has named options, files of `sweeps/conf/`: `model=tiny-64` takes one.

Keys marked **●** are part of a run's identity: another value is another run, with another `run_id`. The
others say how or where a run is computed; runs that differ in these only are the same run.
The default is that of the key itself; an option may set another. This page is made from
`sweeps/spec/`, as `emsweep` that you have installed reads it.
"""

OUTSIDE = """## Beside the run: `sweep`, `sharing`, `budget`, `init_from`, `epochs`

These stand at the top of a sweep file and are read once for the whole sweep. The defaults, with what they
mean, as `sweeps/conf/run.yaml` has them:

"""

CLUSTER = """## `cluster`: where and when

How the sweep is driven, outside every run's identity. `null` leaves a key to its default.
`cluster.num_workers` is the number of worker processes (one a core unless set), `cluster.threads_per_worker`
their threads, `cluster.grace_s` how long a stop waits for runs in progress, `cluster.node_spools` a folder on
each node's own disk where nodes share none, `cluster.usd_per_gpu_hour` what `plan` prices with. Of the
scheduler:

"""


def keys_page() -> str:
    """The page as Markdown."""
    parts = [INTRODUCTION, "## The run itself\n", _table(RunSpec, "", only=("steps", "seed"))]
    for group in GROUPS:
        kind = group_type(group)
        if group == "init":
            continue
        parts.append(f"## `{group}`\n\n{_summary(kind)}\n\n{_options(group)}\n")
        parts.append(_table(kind, f"{group}."))
    parts.append(OUTSIDE + f"```yaml\n{_below(CONF / 'run.yaml', 'steps: 10')}```\n")
    parts.append(CLUSTER + _options("cluster") + "\n\n" + _scheduling())
    return "\n".join(parts)


def field_docs(kind: type) -> dict[str, str]:
    """Field to the docstring below it, in Markdown on one line."""
    [body] = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    name = ""
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and name:
            found.setdefault(name, to_markdown(str(node.value.value)))
        else:
            name = ""
    return found


def to_markdown(text: str) -> str:
    """A docstring, written in reStructuredText, as Markdown on one line."""
    text = re.sub(r":\w+:`[~.]*([^`]+)`", r"`\1`", " ".join(text.split()))
    return text.replace("``", "`")


def unit_of(name: str, doc: str) -> str:
    """The unit that a name or its description states; empty where there is none."""
    for end, unit in sorted(UNITS.items(), key=lambda pair: -len(pair[0])):
        if name.endswith(end):
            return unit
    for word in ("seconds", "tokens", "steps", "nats", "GiB"):
        if re.match(rf"[\w ,]*\b{word}\b", doc, re.IGNORECASE) and word.lower() in doc[:40].lower():
            return word.lower() if word != "GiB" else word
    return ""


def _table(kind: type, prefix: str, only: tuple[str, ...] = ()) -> str:
    docs = field_docs(kind)
    rows = ["| key | | unit | default | meaning |", "|---|---|---|---|---|"]
    for field in dataclasses.fields(kind):
        if only and field.name not in only:
            continue
        doc = docs.get(field.name, "")
        mark = "" if field.metadata.get("compute") else "●"
        cells = (f"`{prefix}{key_of(field.name)}`", mark, unit_of(field.name, doc), _default(field), doc)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        value = field.default
    elif field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        return "must be given"
    return f"`{json.dumps(plain(value))}`"


def _summary(kind: type) -> str:
    return to_markdown((inspect.getdoc(kind) or "").partition("\n\n")[0])


def _options(group: str) -> str:
    names = [f"`{path.stem}`" for path in sorted((CONF / group).glob("*.yaml"))]
    return f"Options: {', '.join(names)}." if names else ""


def _below(path: Path, line: str) -> str:
    """The rest of a file after a line and its neighbour, the seed."""
    text = path.read_text()
    return text[text.index(line) :].partition("seed: 0\n")[2].lstrip()


def _scheduling() -> str:
    docs = field_docs(SchedulerConfig)
    defaults = SchedulerConfig()
    rows = ["| key | unit | default | meaning |", "|---|---|---|---|"]
    rows += [
        f"| `cluster.{key}` | {unit_of(key, '')} | `{getattr(defaults, name)}` | {docs[name]} |"
        for key, name in _TUNABLE.items()
    ]
    docs, policy = field_docs(RetryPolicy), RetryPolicy()
    rows += [
        f"| `cluster.retries.{name}` | tries | `{getattr(policy, name)}` | {docs.get(name, '')} |"
        for name in ("infrastructure", "oom", "error", "timeout")
    ]
    return "\n".join(rows) + "\n"
