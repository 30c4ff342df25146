"""What a configuration points at: models, prompts and benchmarks, read and hashed into the specification.

After :func:`resolve_group` a group is self-contained: prompt texts are in it, files are represented by the
SHA-256 of their content, a hub model by its id and revision. Planning needs no network; :func:`check_needs`
says at launch what is missing.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeps.manifest.code_files import resolve_trainer
from sweeps.manifest.data_files import PACKAGE_SCHEME, file_digest, local_path, stable_path
from sweeps.manifest.hf_cache import missing_files, missing_shards
from sweeps.manifest.norms import resolve_schedule
from sweeps.manifest.resolve_data import resolve_data
from sweeps.manifest.row_fields import Source, answer_of, prompt_fault, question_of, read_items, require_place
from sweeps.manifest.row_files import read_rows
from sweeps.spec import EvalSpec, SpecError, coerce_key, nearest
from sweeps.spec.errors import cut, shown
from sweeps.spec.hub_names import HUB_ID
from sweeps.spec.identity import plain

WEIGHTS = re.compile(r".*\.safetensors(\.index\.json)?")
PICKLED = re.compile(r".*\.(bin|pt|pth|ckpt|pkl|h5|msgpack)")
TOKENIZER = re.compile(r"tokenizer\.(json|model)|vocab\.(json|txt)|spiece\.model|sentencepiece\.bpe\.model")
MODEL_FILES = re.compile(
    r"(generation_)?config\.json|tokenizer.*|special_tokens_map\.json|added_tokens\.json|vocab\..*|merges\.txt"
    r"|adapter_config\.json|.*\.model|chat_template.*|.*\.safetensors(\.index\.json)?|.*\.py"
)
"""Files of a model folder that decide what it computes, and so its identity."""

ADAPTER = "adapter_config.json"
"""File by which transformers applies an adapter, to the model that it names."""

MAX_ROWS_NAMED = 64
"""Rows of an example that its label names one by one."""

NO_EXAMPLE: Mapping[str, Any] = {}
"""Configuration of the example of a run that walks over a training set."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """Something a run needs which is not on this machine now."""

    what: str
    """The model or file, as the user would name it."""
    missing: tuple[str, ...]
    fix: str
    downloadable: bool
    """True if a network would do."""


def resolve_group(
    group: str, config: Mapping[str, Any], folder: Path | None = None
) -> tuple[dict[str, Any], Need | None]:
    """Return one group's configuration made self-contained, and what is missing for running it here.

    Args:
        group: its name.
        config: its values.
        folder: of the sweep file, beside which code lies; ``None`` where there is no such file.

    Raises:
        SpecError: for a model folder, prompt file, benchmark or code that cannot be used.
    """
    if group == "trainer":
        return resolve_trainer(dict(config), folder), None
    resolver = {
        "model": resolve_model,
        "example": resolve_example,
        "data": resolve_data,
        "eval": resolve_eval,
        "schedule": resolve_schedule,
    }.get(group)
    return resolver(dict(config)) if resolver else (dict(config), None)


def _typed(group: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with every value of its field's type; a single row or id stands for a list of one."""
    one = [k for k in ("rows", "ids") if group == "example" and isinstance(config.get(k), (int, str))]
    listed = {**config, **{k: [config[k]] for k in one}}
    return {key: plain(coerce_key(f"{group}.{key}", value)) for key, value in listed.items()}


def resolve_model(config: dict[str, Any]) -> tuple[dict[str, Any], Need | None]:
    """Resolve a model: a local folder is checked and hashed, a hub id is kept with its revision.

    Raises:
        SpecError: for a folder that is missing, lacks a tokenizer, or holds pickled weights only.
    """
    config = _typed("model", {**config, "path": config.get("path") or ""})
    path = config.get("path")
    if not path:
        raise SpecError(
            "model.path: is not set; give a model folder (model=hf model.path=FOLDER) or a hub id"
        )
    label = config.get("name") or path.rstrip("/").rsplit("/", 1)[-1]
    if config.get("commit"):
        raise SpecError(
            f"model.commit={config['commit']!r}: is filled in at launch; ask for a commit with model.revision"
        )
    folder = local_path(path)
    if not folder.is_dir() and HUB_ID.fullmatch(path) and not path.startswith(PACKAGE_SCHEME):
        revision = config.get("revision") or "main"
        resolved = config | {"name": label, "hub_id": path, "revision": revision, "digest": None}
        missing = missing_files(path, revision)
        fix = "connect to a network, or point at a local copy: model=hf model.path=FOLDER"
        need = Need(what=f"hub model {path} at {revision}", missing=missing, fix=fix, downloadable=True)
        return resolved, need if missing else None
    _check_folder(path, folder)
    digest = folder_digest(folder, with_code=bool(config.get("trust_remote_code")))
    local = {"name": label, "path": stable_path(path), "hub_id": None, "revision": None, "digest": digest}
    return config | local, None


def _check_folder(path: str, folder: Path) -> None:
    if not folder.is_dir():
        rule = "is a file, not a folder" if folder.exists() else "no such folder"
        raise SpecError(
            f"model.path={path!r}: {rule}; give a Hugging Face model folder, "
            f"or a hub id such as Qwen/Qwen2.5-Math-1.5B"
        )
    names = sorted(f.name for f in folder.iterdir() if f.is_file())
    if "config.json" not in names:
        raise SpecError(f"model.path={path!r}: has no config.json; save the model with save_pretrained()")
    if not any(WEIGHTS.fullmatch(n) for n in names):
        pickled = [n for n in names if PICKLED.fullmatch(n)]
        if pickled:
            raise SpecError(
                f"model.path={path!r}: holds pickled weights only ({pickled[0]}), which can run code when "
                f"loaded; save it again with save_pretrained(), which writes model.safetensors"
            )
        raise SpecError(f"model.path={path!r}: has no weights; a model.safetensors file is needed")
    for name in (n for n in names if n.endswith(".safetensors.index.json")):
        _check_index(path, folder / name)
    if missing := missing_shards(folder):
        raise SpecError(
            f"model.path={path!r}: lacks {', '.join(missing)}, which its index names; copy them too"
        )
    if not any(TOKENIZER.fullmatch(n) for n in names):
        raise SpecError(
            f"model.path={path!r}: has no tokenizer (tokenizer.json); "
            f"save it with tokenizer.save_pretrained(folder)"
        )


def _check_index(path: str, index: Path) -> None:
    """Refuse an index that names weights outside the folder, which nothing would hash."""
    try:
        shards = set(json.loads(index.read_bytes())["weight_map"].values())
        outside = sorted(s for s in shards if s != Path(s).name or s in ("", ".", ".."))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SpecError(
            f"model.path={path!r}: {index.name} is not an index of weights ({error!r}); save the model again "
            "with save_pretrained()"
        ) from None
    if outside:
        raise SpecError(
            f"model.path={path!r}: {index.name} names {outside[0]!r}, which is not a file of this folder and "
            "so no part of the model's identity; copy the weights into the folder, named without a path"
        )


def _adapted_base(folder: Path) -> Path | None:
    """The folder of the model that an adapter in this one is applied to, where it is another on this
    machine.
    """
    try:
        config = json.loads((folder / ADAPTER).read_bytes())
        base = Path(config["base_model_name_or_path"]).expanduser()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return base if base.is_dir() and base.resolve() != folder.resolve() else None


def folder_digest(folder: Path, with_code: bool = False) -> str:
    """Return the SHA-256 over a model folder's configuration, tokenizer and weights (and code, where it is
    trusted).
    """
    digest = _files_digest(folder, with_code)
    if base := _adapted_base(folder):
        digest.update(f"{ADAPTER}\0{_files_digest(base, with_code).hexdigest()}\n".encode())
    return digest.hexdigest()


def _files_digest(folder: Path, with_code: bool) -> hashlib._Hash:
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir(), key=lambda f: f.name):
        if file.is_file() and MODEL_FILES.fullmatch(file.name) and (with_code or file.suffix != ".py"):
            digest.update(f"{file.name}\0{file_digest(file)}\n".encode())
    return digest


def resolve_example(config: dict[str, Any]) -> tuple[dict[str, Any], None]:
    """Read the prompts of an example into it; prompts given as text are kept.

    Raises:
        SpecError: for a file, row, id or field that does not exist, or a row that holds no prompt.
    """
    if config == NO_EXAMPLE:
        return config, None
    config = _typed("example", config)
    path = config.get("path")
    if path is None:
        if not config.get("prompts"):
            raise SpecError(
                "example: names no prompt; set example.path (and example.rows) or example.prompts"
            )
        for number, text in enumerate(config["prompts"]):
            if fault := prompt_fault(text):
                raise SpecError(f"example.prompts[{number}]={shown(text)}: {fault}")
        return config | {"name": config.get("name") or "text"}, None
    rows = read_rows(path, "example.path")
    chosen = _choose(rows, config, path)
    field, answer_field = config.get("text_field", "problem"), config.get("answer_field")
    questions, answers = [], []
    for number in chosen:
        asked = Source(path=path, number=number, key="example.text_field", field=field)
        questions.append(question_of(rows[number], asked))
        require_place(questions[-1], config.get("format", "chat"), asked)
        if answer_field:
            source = Source(path=path, number=number, key="example.answer_field", field=answer_field)
            answers.append(str(answer_of(rows[number], source)))
    systems = [question.system for question in questions]
    if len(set(systems)) > 1:
        raise SpecError(
            f"example.path={path!r}: rows {cut(str(chosen))} differ in their system message; "
            "train on them apart"
        )
    label = config.get("name") or f"{Path(path).stem}-{_rows_label(chosen)}"
    read = {"name": label, "path": stable_path(path), "rows": chosen}
    read |= {"prompts": [question.text for question in questions], "answers": answers}
    return config | read | {"system": config.get("system") or systems[0]}, None


def _rows_label(rows: Sequence[int]) -> str:
    """Numbers of rows, or how many they are where nobody would read them."""
    return "+".join(map(str, rows)) if len(rows) <= MAX_ROWS_NAMED else f"{len(rows)}-rows"


def _choose(rows: Sequence[Mapping[str, Any]], config: Mapping[str, Any], path: str) -> list[int]:
    ids, numbers = config.get("ids") or [], config.get("rows") or []
    if ids:
        known: dict[str, list[int]] = {}
        for i, row in enumerate(rows):
            if row.get("id") is not None:
                known.setdefault(str(row["id"]), []).append(i)
        for wanted in ids:
            if len(found := known.get(str(wanted), [])) != 1:
                rule = (
                    f"is that of rows {found}" if found else f"is not in {path}{nearest(str(wanted), known)}"
                )
                raise SpecError(f"example.ids={shown(wanted)}: {rule}; name one row each")
        return [known[str(wanted)][0] for wanted in ids]
    for number in numbers:
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < len(rows):
            raise SpecError(f"example.rows={number!r}: {path} has rows 0 to {len(rows) - 1}")
    return list(numbers) or list(range(len(rows)))


def resolve_eval(config: dict[str, Any]) -> tuple[dict[str, Any], Need | None]:
    """Check and hash a benchmark's file. A benchmark whose digest is pinned may be missing while planning.

    Raises:
        SpecError: for a missing file without a pinned digest, one that differs from it, or rows without the
            fields.
    """
    config = _typed("eval", config)
    path = config.get("path")
    if path is None:
        return config | {"name": config.get("name") or "none"}, None
    pinned, file = config.get("digest"), local_path(path)
    label = config.get("name") or file.stem
    if not file.is_file() and pinned:
        fix = f"put the file there, or set EMSWEEP_DATA to the folder that holds {file.name}"
        need = Need(what=f"benchmark {label}", missing=(str(file),), fix=fix, downloadable=False)
        return config | {"name": label, "path": stable_path(path)}, need
    fields = ("question_field", "answer_field", "drop_items", "limit", "system", "format")
    read_items(path, **{key: config.get(key, getattr(EvalSpec(), key)) for key in fields})
    digest = file_digest(file)
    if pinned and pinned != digest:
        raise SpecError(
            f"eval.path={path!r}: differs from the benchmark {label!r} "
            f"(SHA-256 {digest[:12]}…, expected {pinned[:12]}…); set eval.digest=null to use it all the same"
        )
    return config | {"name": label, "path": stable_path(path), "digest": digest}, None


def check_needs(needs: Iterable[Need], has_network: Callable[[], bool]) -> None:
    """Refuse to start runs whose model or benchmark cannot be had here; called before anything is launched.

    Raises:
        SpecError: naming the missing files and how to supply them.
    """
    for need in needs:
        if need.downloadable and has_network():
            continue
        reason = "no network and not in the local cache" if need.downloadable else "not found"
        raise SpecError(f"{need.what}: {reason}; missing {', '.join(need.missing)}; {need.fix}")
