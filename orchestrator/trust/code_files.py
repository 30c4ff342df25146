"""Whether the code that runs were asked for is the code that would run now; nothing is imported to tell.

A digest of the function's file is part of a run's identity. A file that has changed since makes
other runs, so a launch asks for those, and a resume of the earlier ones is refused.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

from sweeps.manifest.code_changes import code_key, hashed_trainers
from sweeps.manifest.code_files import code_files, digest_of, is_function
from sweeps.manifest.manifest import Manifest
from sweeps.spec import TrainerSpec, nearest
from sweeps.spec.errors import UserError
from trainers.function import refuse_kind, refuse_unknown


def require_same_code(manifest: Manifest, root: Path | None = None) -> None:
    """Refuse runs whose function or script is not there, is another now, or takes what nobody gives.

    Args:
        root: the sweep directory, in which no code is looked for.

    Raises:
        UserError: naming the file and what mends it.
    """
    for trainer in hashed_trainers(manifest):
        files = code_files(trainer)
        if not files:
            raise UserError(
                f"{code_key(trainer)}: its file is no longer in {trainer.folder}; put it back, or launch the "
                "sweep again from where it is now"
            )
        inside = [f for f in files if root is not None and f.resolve().is_relative_to(root.resolve())]
        if inside:
            raise UserError(
                f"{code_key(trainer)}: {inside[0]} lies inside the sweep directory, where no code is "
                "looked for; move it"
            )
        if digest_of(files) != trainer.digest:
            raise UserError(
                f"{code_key(trainer)}: {named(files)} changed since these runs were asked for; launch the "
                "sweep again, which adds runs of the file as it is now and keeps the results of the earlier "
                "one, or put the file back"
            )
        if is_function(trainer):
            _require_function(trainer, files[0])


def named(files: Sequence[Path]) -> str:
    """Files as the subject of a sentence that says that they have changed."""
    return f"{files[0]} has" if len(files) == 1 else f"one of {', '.join(map(str, files))} has"


def _require_function(trainer: TrainerSpec, file: Path) -> None:
    """Hold the function's text against what it may ask for; what the text does not tell, a worker finds."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{code_key(trainer)}: {file} cannot be read ({error}); mend it") from None
    name = trainer.target.partition(":")[2]
    defined = {node.name: node for node in tree.body if isinstance(node, _DEFINITIONS)}
    node = defined.get(name)
    if node is None:
        bound = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)} | set(_imported(tree))
        if name in bound or "*" in bound:
            return  # a name of something else, such as a partial or an imported function
        raise UserError(f"{code_key(trainer)}: {file} has no {name!r}{nearest(name, defined)}")
    refuse_kind(
        trainer.target,
        is_class=isinstance(node, ast.ClassDef),
        is_coroutine=isinstance(node, ast.AsyncFunctionDef),
    )
    if isinstance(node, ast.FunctionDef) and not node.decorator_list:
        refuse_unknown(trainer.target, _required(node.args))


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name).split(".")[0] for alias in node.names)
        elif isinstance(node, _DEFINITIONS):
            yield node.name


def _required(arguments: ast.arguments) -> Iterator[str]:
    """Names of the arguments without a default."""
    by_place = [*arguments.posonlyargs, *arguments.args]
    yield from (a.arg for a in by_place[: len(by_place) - len(arguments.defaults)])
    defaults = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    yield from (a.arg for a, default in defaults if default is None)
