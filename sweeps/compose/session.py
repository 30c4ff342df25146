"""Hydra opened on the shipped configuration, with the places and files that the words name."""

from __future__ import annotations

import contextlib
import importlib.util
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from sweeps.compose.file_paths import anchor_paths
from sweeps.hydra_internals import group_options, on_load, search_first
from sweeps.spec import RunSpec, SpecError, spec_to_dict
from sweeps.spec.errors import shown
from sweeps.spec.plain_yaml import require_finite
from sweeps.spec.printable import half_character

CONFIG_MODULE, CONFIG_NAME, VERSION_BASE = "sweeps.conf", "run", "1.3"
"""Where the shipped options lie, the file that names the defaults, and the Hydra whose rules hold."""

TARGET, HYDRA_NAME = "trainer.target", "_target_"
"""Our key for the code behind a run, and Hydra's name for such keys, which means the same in ``trainer``."""

SEARCH_PATH = "hydra.searchpath"
"""Hydra's key for further folders of option files."""


# Every key of a run is offered with its default, so that option files state only what differs.
ConfigStore.instance().store(name="spec", node=spec_to_dict(RunSpec()), provider="sweeps.spec")


_NESTED = re.compile(r"""(?<![\"'])\$\{[\w.]+:[^${}\"']*(?:\$\{[^${}\"']*\}[^${}\"']*)+\}(?![\"'])""")
"""A reference with others in it, which Hydra's grammar takes in quotes only."""

_FILTER = re.compile(r"""^(search\.[ab])=(?![\"'])(.+)$""", re.DOTALL)
"""A word whose value is a filter, such as ``objective=em``: likewise."""


@contextlib.contextmanager
def opened(overrides: Sequence[str]) -> Iterator[tuple[Any, list[Override]]]:
    """Open Hydra on the shipped configuration; yields its loader and the words."""
    with _translated_errors(), hydra.initialize_config_module(CONFIG_MODULE, version_base=VERSION_BASE):
        loader = GlobalHydra.instance().config_loader()
        on_load(loader, _anchor)
        yield loader, _open_places(parse(overrides), loader)


def _anchor(name: str, result: Any) -> None:
    """Rewrite the relative paths of what was read from a file; ``name`` is that of the option."""
    own_file, in_folder = (
        text.removeprefix("file://") if (text or "").startswith("file://") else None
        for text in (result.provider, result.path)
    )
    file = Path(own_file) if own_file else Path(in_folder) / name if in_folder else None
    if file is not None and isinstance(result.config, DictConfig):
        package = result.header.get("package")
        group = name.rpartition("/")[0].replace("/", ".") if package is None else package
        anchor_paths(result.config, "" if group == "_global_" else group, file.parent)


def parse(words: Sequence[str]) -> list[Override]:
    """Parse words of the command line; raises SpecError for one outside Hydra's grammar."""
    parser = OverridesParser.create()
    parsed = []
    for written in words:
        if half_character(written) is not None:
            raise SpecError(f"{shown(written)}: holds half a character; type it again in UTF-8")
        word = re.sub(rf"^(\+*)trainer\.{HYDRA_NAME}=", rf"\1{TARGET}=", written)
        word = _FILTER.sub(lambda found: f"{found[1]}={_in_quotes(found[2])}", word)
        if word.endswith("=") and word.count("=") == 1:
            raise SpecError(f"{word!r}: is empty; give at least one value, such as {word}1,2")
        try:
            parsed += parser.parse_overrides([_NESTED.sub(_quoted, word)])
        except (HydraException, ValueError) as error:  # ValueError of a number with thousands of digits
            reason = str(error.__cause__ or error).split("\n")[0]
            raise SpecError(
                f"{shown(word)}: is not an override ({reason}); write key=value or key=value1,value2"
            ) from None
    return parsed


def _in_quotes(text: str) -> str:
    """Text as Hydra's grammar takes any."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _quoted(reference: re.Match[str]) -> str:
    return f'"{reference[0]}"'


def _open_places(words: Sequence[Override], loader: Any) -> list[Override]:
    """Add what ``hydra.searchpath`` names to the loader; make a sweep file given by its path an option."""
    kept = []
    for word in words:
        value = None if word.is_sweep_override() or word.is_delete() else word.value()
        if word.key_or_group == SEARCH_PATH:
            for folder in value if isinstance(value, list) else [value]:
                search_first(loader, _searchable(folder))
        elif word.key_or_group == "sweep" and isinstance(value, str) and value.endswith((".yaml", ".yml")):
            kept += _named(_register_file(Path(value).expanduser(), loader))
        elif word.key_or_group == "sweep" and isinstance(value, int | float):
            kept += _named(str(word.input_line).partition("=")[2])
        else:
            kept.append(word)
    return kept


def _named(sweep: str) -> list[Override]:
    """The word that chooses a sweep by its name, which is text even where it reads like a number."""
    return parse([f"sweep={_in_quotes(sweep)}"])


def _searchable(folder: Any) -> str:
    """A place of option files; raises SpecError where there is none."""
    scheme, _, rest = folder.rpartition("://") if isinstance(folder, str) else ("", "", "")
    module = (
        importlib.util.find_spec(rest.partition(".")[0].partition("/")[0])
        if scheme == "pkg" and rest
        else None
    )
    if module is None and not (rest and scheme in ("", "file") and Path(rest).is_dir()):
        raise SpecError(
            f"{SEARCH_PATH}={shown(folder)}: no such folder; give [file:///FOLDER] with option files"
        )
    return str(folder)


def _register_file(path: Path, loader: Any) -> str:
    if not path.is_file():
        raise SpecError(
            f"sweep={str(path)!r}: no such file; give a sweep file, or the name of a shipped sweep"
        )
    try:
        with path.open("rb") as file:
            require_finite(file)
        node = OmegaConf.load(path)
    except ValueError as error:  # a number of thousands of digits, or text that is not UTF-8
        raise SpecError(f"{path.name}: cannot be read ({error}); save it as UTF-8 text") from None
    if not isinstance(node, DictConfig) or "sweep" not in node:
        raise SpecError(f"{path.name}: has no sweep: node; declare the axes below sweep: axes:")
    name = path.stem
    while name in group_options(loader, "sweep") and not _is_file(name):
        name = f"{name}-own"
    store = ConfigStore.instance()
    store.store(group="sweep", name=name, node=node, package="_global_", provider=f"file://{path.absolute()}")
    return name


def _is_file(name: str) -> bool:
    """Whether a sweep of this name is a file that was read before, in whose place another may come."""
    node = ConfigStore.instance().repo.get("sweep", {}).get(f"{name}.yaml")
    return node is not None and (node.provider or "").startswith("file://")


@contextlib.contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except SpecError:
        raise
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        root: BaseException = error
        while root.__cause__ is not None:
            root = root.__cause__
        lines = [line.strip() for line in str(root).splitlines() if line.strip()]
        unset = re.search(r"Environment variable '(.*)' not found", " ".join(lines))
        if unset:
            raise SpecError(
                f"${{oc.env:{unset[1]}}}: the variable is not set; set it, or give a default as "
                f"${{oc.env:{unset[1]},…}}"
            ) from error
        circle = re.search(r"Recursive interpolation.*full_key: (\S+)", " ".join(lines))
        if circle:
            raise SpecError(
                f"{circle[1]}: its references go in a circle; give one of them a value"
            ) from error
        if "Cannot merge DictConfig with ListConfig" in lines:
            lines = [lines[0].partition(":")[0], "a list stands where settings belong; write key: value"]
        raise SpecError("; ".join(line for line in lines[:3] if not line.endswith(":"))) from error
