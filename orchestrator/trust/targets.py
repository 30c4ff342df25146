"""Whether the trainers that a sweep names are there; nothing is imported to tell."""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.trust.code_files import require_same_code
from orchestrator.worker.process_env import outside, own_import_path
from sweeps.manifest.code_files import is_function
from sweeps.manifest.manifest import Manifest
from sweeps.spec import TrainerSpec, nearest
from sweeps.spec.errors import UserError
from sweeps.spec.identity import plain
from sweeps.spec.metrics import metric_info
from trainers.metrics import SHIPPED


def require_targets(manifest: Manifest, root: Path | None = None) -> None:
    """Refuse a sweep with a trainer that the workers would not find.

    Args:
        root: the sweep directory, in which no code is looked for.

    Raises:
        UserError: naming the target and what mends it.
    """
    require_same_code(manifest, root)
    for trainer in _trainers(manifest):
        if not is_function(trainer):
            _require_present(trainer, root)


def _trainers(manifest: Manifest) -> list[TrainerSpec]:
    """The trainers of a sweep, one a target, in the order of the runs that name them first."""
    _, firsts = np.unique(manifest.group_codes["trainer"], return_index=True)
    trainers = [manifest.group("trainer", index) for index in sorted(firsts.tolist())]
    return list({trainer.target: trainer for trainer in reversed(trainers)}.values())[::-1]


def _require_present(trainer: TrainerSpec, root: Path | None) -> None:
    target = trainer.target
    module, _, name = target.rpartition(".")
    if not module:
        raise UserError(f"trainer.target={target!r}: is no path; give module.Class")
    module_spec = _locate(module, root, trainer.folder)
    if module_spec is None:
        raise UserError(
            f"trainer.target={target!r}: there is no module {module!r}; install it, put it on PYTHONPATH, or "
            "launch from the folder that holds it"
        )
    names = _top_level_names(module_spec)
    if names is not None and name not in names:
        raise UserError(f"trainer.target={target!r}: {module} has no {name!r}{nearest(name, names)}")


def _locate(module: str, root: Path | None, folder: str = "") -> ModuleSpec | None:
    """Where a module lies, as the workers will look for it: last in the folder of the sweep file."""
    last = outside([folder], root) if folder else []
    places: Sequence[str] | None = [*outside(sys.path, root), *own_import_path(root), *last]
    module_spec: ModuleSpec | None = None
    for part in module.split("."):
        module_spec = PathFinder.find_spec(part, places)  # the last name alone: no parent is imported
        if module_spec is None:
            return None
        places = list(module_spec.submodule_search_locations or ())
    return module_spec


def metrics_of_classes(manifest: Manifest, root: Path | None = None) -> dict[str, Any]:
    """What the trainers' classes say of their metrics: the attribute ``metrics``, read off the text.

    Args:
        root: as :func:`require_targets`.

    Raises:
        UserError: for an attribute that is no literal, or that says what no metric can be.
    """
    metrics: dict[str, Any] = {}
    for trainer in _trainers(manifest):
        target = trainer.target
        module, _, name = target.rpartition(".")
        module_spec = (
            _locate(module, root, trainer.folder) if module and not target.startswith(SHIPPED) else None
        )
        metrics |= _class_metrics(target, name, _text_of(module_spec))
    return metrics


def _class_metrics(target: str, name: str, tree: ast.Module | None) -> dict[str, Any]:
    """The literal that a class of the module binds to ``metrics``; empty where it binds none."""
    classes = [node for node in (tree.body if tree else ()) if isinstance(node, ast.ClassDef)]
    for node in (n for c in classes if c.name == name for n in c.body):
        bound = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if not any(isinstance(one, ast.Name) and one.id == "metrics" for one in bound):
            continue
        value = getattr(node, "value", None)
        try:
            written = ast.literal_eval(value) if value is not None else {}
        except ValueError:
            written = None
        if not isinstance(written, dict):
            raise UserError(
                f"{target}.metrics: must be a literal such as "
                "{'rmse': {'direction': 'min', 'unit': 'm'}}, for nothing is imported to read it; or say it "
                "in the sweep file, below trainer.metrics"
            )
        for metric, said in written.items():
            metric_info(str(metric), said)
        return {str(metric): plain(said) for metric, said in written.items()}
    return {}


def _text_of(module_spec: ModuleSpec | None) -> ast.Module | None:
    """A module's text, parsed; ``None`` where there is none, or it is no Python."""
    if module_spec is None or module_spec.origin is None or not module_spec.origin.endswith(".py"):
        return None
    try:
        return ast.parse(Path(module_spec.origin).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return None  # the worker's own error says more


def _top_level_names(module_spec: ModuleSpec) -> set[str] | None:
    """Names that a module's text binds, or ``None`` when its text does not tell."""
    tree = _text_of(module_spec)
    if tree is None:
        return None
    names: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom() if any(alias.name == "*" for alias in node.names):
                return None
            case ast.FunctionDef(name="__getattr__"):
                return None
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                names.add(name)
            case ast.Import() | ast.ImportFrom():
                names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
            case ast.Name(id=name, ctx=ast.Store()):
                names.add(name)
    return names
