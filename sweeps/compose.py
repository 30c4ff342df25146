"""The one Hydra file: composes a sweep once, with Hydra's own YAML and override grammar, into plain values.

Also a Hydra application for those who know Hydra's flags::

    python -m sweeps.compose sweep=quickstart --cfg job
    python -m sweeps.compose --info defaults

A sweep is a file ``sweep/NAME.yaml`` on Hydra's search path (``sweeps/conf`` is on it;
``hydra.searchpath=[file:///dir]`` adds a folder), or any ``.yaml`` file named by its path. Its ``sweep:``
node declares axes and rules (:mod:`sweeps.declare`); the rest is configuration like any other. Words on the
command line win over the file: one value for an axis replaces it, several replace or append it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.core_plugins.bash_completion import BashCompletion
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, RangeSweep
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException
from yaml import YAMLError

from sweeps import declare
from sweeps.bind import SCALARS, Layers
from sweeps.grid import MAX_RUNS, SEED_KEY, Axis, Grid, too_large
from sweeps.locate import mistakes_in
from sweeps.references import settle
from sweeps.spec import GROUPS, RunSpec, SpecError, coerce_key, known_keys, nearest, spec_to_dict

CONFIG_MODULE, CONFIG_NAME, VERSION_BASE = "sweeps.conf", "run", "1.3"

AD_HOC = "adhoc"
"""Name of a sweep made of overrides alone."""

FREE_KEYS = "trainer.params."
"""Prefix of keys that an own trainer makes up."""

SEARCH_PATH = "hydra.searchpath"
"""Hydra's key for further folders of option files."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ComposedSweep:
    """A sweep as it was asked for, in plain values."""

    name: str
    """Name of the sweep; its default directory is ``outputs/NAME``."""
    layers: Layers
    """Base configuration, the options that axes name, and the rules."""
    grid: Grid
    """Axes and how they combine."""
    choices: Mapping[str, str] = field(default_factory=dict)
    """Option of each group below the axes."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What is not part of any run: ``sharing``, ``budget``, ``cluster``."""
    overrides: tuple[str, ...] = ()
    """Words of the command line."""
    source: Path | None = None
    """The sweep file."""

    @property
    def base(self) -> Mapping[str, Any]:
        """The configuration below the axes: groups, ``steps`` and ``seed``."""
        return self.layers.base


def compose_sweep(overrides: Sequence[str], grid: Grid | None = None) -> ComposedSweep:
    """Compose a sweep.

    Args:
        overrides: words such as ``sweep=quickstart``, ``optim.lr=1e-4,2e-4``, ``seed=range(16)``.
        grid: axes built in Python (:mod:`sweeps.grid`), instead of a sweep file's.

    Raises:
        SpecError: for any mistake in the words or in the sweep file, with value, rule and fix.
    """
    with _opened(overrides) as (loader, words):
        composer = _Composer(loader, words)
        config = composer.base
        with mistakes_in(composer.source):
            node = config["sweep"]
            declared = declare.read_sweep(node, composer.written_values)
            if grid is not None:
                declared = declare.Declared(grid=_typed(grid, composer), rules=declared.rules)
            declared = declare.override(declared, composer.given(), composer.swept_keys)
            layers = composer.layers(declared)
        full = _with_seed(declared.grid, layers.base)
        options = {k: config[k] for k in config.raw if k not in (*GROUPS, *SCALARS, "sweep")}
        return ComposedSweep(
            name=str(node.get("name") or composer.sweep or AD_HOC),
            layers=layers,
            grid=full,
            choices={k: v for k, v in config.choices.items() if k in GROUPS},
            options=options | {"sharing": _switch("sharing", options.get("sharing"))},
            overrides=tuple(overrides),
            source=composer.source,
        )


class _Config:
    """One composed configuration as plain values; references to keys of a run stay as text."""

    def __init__(self, config: DictConfig) -> None:
        self.choices = {str(k): str(v) for k, v in config.hydra.runtime.choices.items() if "/" not in str(k)}
        OmegaConf.set_struct(config, False)
        del config["hydra"]
        self._config = config
        self.raw: dict[str, Any] = OmegaConf.to_container(config, resolve=False)  # type: ignore[assignment]

    def __getitem__(self, key: str) -> Any:
        return settle(self.raw[key], (key,), self._look_up, self._resolve)

    def _look_up(self, key: str) -> Any:
        try:
            value = OmegaConf.select(self._config, key)
        except InterpolationResolutionError as error:
            if "Recursive interpolation" not in str(error):
                raise
            raise SpecError(f"${{{key}}} leads back to itself; give one key in the circle a value") from None
        if value is None:
            raise SpecError(
                f"${{{key}}} has no value{nearest(key, _flat_keys(self.raw))}; set it or refer to another"
            )
        return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value

    def _resolve(self, text: str) -> str:
        return str(OmegaConf.create({"value": text}).value)


class _Composer:
    """Composes configurations for one set of words; each distinct choice of options once."""

    def __init__(self, loader: Any, words: Sequence[Override]) -> None:
        self._loader = loader
        self._words = words
        self._groups = [*GROUPS, *(g for g in loader.list_groups("") if g not in GROUPS and g != "hydra")]
        self.swept_keys = {w.key_or_group for w in words if w.is_sweep_override()}
        chosen = [w.value() for w in words if w.key_or_group == "sweep" and not w.is_sweep_override()]
        self.sweep = str(chosen[-1]) if chosen and chosen[-1] else None
        self._check_words()
        self.base = self._compose([w for w in words if not w.is_sweep_override()])

    @property
    def source(self) -> Path | None:
        """The sweep's own file."""
        if self.sweep is None:
            return None
        result = self._loader.repository.load_config(f"sweep/{self.sweep}")
        provider = result.provider if result else ""
        if provider.startswith("file://"):
            return Path(provider.removeprefix("file://"))
        folder = result.path.removeprefix("file://") if result else ""
        if folder.startswith("pkg://"):
            folder = str(Path(__file__).parent / "conf")
        candidates = [Path(folder), Path(folder) / f"sweep/{self.sweep}.yaml"]
        return next((c for c in candidates if c.is_file()), None)

    def _compose(self, words: Iterable[Override]) -> _Config:
        # A free parameter need not exist yet: ++ sets it either way.
        lines = [
            f"++{w.input_line}"
            if w.key_or_group.startswith(FREE_KEYS) and w.get_key_element()[0] != "+"
            else w.input_line
            for w in words
        ]
        return _Config(hydra.compose(CONFIG_NAME, overrides=lines, return_hydra_config=True))

    # What the words may say

    def _check_words(self) -> None:
        """Refuse unknown keys, groups and options before anything is composed."""
        for word in self._words:
            key = word.key_or_group
            if word.is_hydra_override():
                continue
            if word.is_delete():
                raise SpecError(f"{word.input_line!r}: nothing can be removed; give {key} one value instead")
            if key in self._groups:
                for option in self._values_of(word):
                    self._check_option(key, option)
            elif self._is_run_key(key):
                for value in self._values_of(word):
                    _coerced(key, value)
            else:
                self._check_other_key(word)
            if word.is_sweep_override() and key not in GROUPS and not self._is_run_key(key):
                raise SpecError(
                    f"{word.input_line!r}: {key} is not part of a run and cannot be an axis; give one value"
                )

    def _is_run_key(self, key: str) -> bool:
        return key in known_keys() or key.startswith(FREE_KEYS)

    def _check_option(self, group: str, option: Any) -> None:
        known = self._loader.get_group_options(group)
        if option is not None and option not in known:
            raise SpecError(
                f"{group}={option}: unknown {group}{nearest(str(option), known)}; "
                f"choose one of {', '.join(known)}"
            )

    def _check_other_key(self, word: Override) -> None:
        key = word.key_or_group
        options = [w for w in self._words if w.key_or_group in self._groups and not w.is_sweep_override()]
        known = [*self._groups, *known_keys(), *_flat_keys(self._compose(options).raw)]
        if key not in known and not word.is_add():
            raise SpecError(f"unknown key {key!r}{nearest(key, known)}")

    # Values

    def given(self) -> list[tuple[str, list[Any]]]:
        """Keys of runs that the words set, with their values."""
        words = [w for w in self._words if w.key_or_group in GROUPS or self._is_run_key(w.key_or_group)]
        return [(w.key_or_group, self.checked_values(w.key_or_group, self._values_of(w))) for w in words]

    def written_values(self, key: str, written: Any) -> list[Any]:
        """Values of an axis as a sweep file writes them: a list, one value, or text in override grammar."""
        if key not in GROUPS and not self._is_run_key(key):
            known = [*GROUPS, *known_keys()]
            raise SpecError(f"axis {key}: unknown key{nearest(key, known)}")
        if isinstance(written, str) and "${" not in written:
            written = self._values_of(_parse([f"{key}={written}"])[0])
        return self.checked_values(key, written if isinstance(written, list) else [written])

    def checked_values(self, key: str, values: Sequence[Any]) -> list[Any]:
        """Refuse unknown options and values of the wrong type; numbers take the type of their key."""
        if key in GROUPS:
            for option in values:
                self._check_option(key, option)
            return list(values)
        return [_coerced(key, v) for v in values]

    def _values_of(self, word: Override) -> list[Any]:
        value = word.value()
        if isinstance(value, RangeSweep):
            _check_range(word, value)
            return list(value.range()) if not value.shuffle else _refuse_shuffle(word)
        if isinstance(value, Glob):
            found = value.filter(self._loader.get_group_options(word.key_or_group))
            if not found:
                raise SpecError(f"{word.input_line!r}: matches no option of {word.key_or_group}")
            return found
        if isinstance(value, ChoiceSweep):
            converted = Override._convert_value(list(value.list))
            return converted if not value.shuffle else _refuse_shuffle(word)
        if word.is_sweep_override():
            raise SpecError(
                f"{word.input_line!r}: has no countable values; list them, or use range(start,stop,step)"
            )
        return [value]

    # Layers

    def layers(self, declared: declare.Declared) -> Layers:
        """Compose each option that an axis or a rule names, everything else as in the base."""
        base = {g: self.base[g] for g in (*GROUPS, *SCALARS)}
        named: dict[str, dict[str, Mapping[str, Any]]] = {}
        for group, option in _named_options(declared):
            if option not in named.setdefault(group, {}):
                named[group][option] = (
                    base[group] if option == self.base.choices.get(group) else self._option(group, option)
                )
        return Layers(base=base, options=named, rules=declared.rules)

    def _option(self, group: str, option: str) -> Mapping[str, Any]:
        words = [w for w in self._words if w.key_or_group != group and not w.is_sweep_override()]
        config = self._compose([*words, *_parse([f"{group}={option}"])])
        for other in (*GROUPS, *SCALARS):
            if other != group and config.raw[other] != self.base.raw[other]:
                raise SpecError(
                    f"{group}={option}: its option file also changes {other}, which an axis cannot; "
                    f"use set: [{{when: {group}={option}, {other}: …}}] in the sweep file"
                )
        return config[group]


def _named_options(declared: declare.Declared) -> Iterator[tuple[str, str]]:
    def axes(grid: Grid) -> Iterator[tuple[str, Any]]:
        for a in grid.axes:
            yield from ((a.key, v) for v in a.values if a.key in GROUPS)
        for part in grid.parts:
            yield from axes(part)

    yield from axes(declared.grid)
    for rule in declared.rules:
        yield from ((k, v) for k, v in rule.assign.items() if k in GROUPS)


def _with_seed(grid: Grid, base: Mapping[str, Any]) -> Grid:
    """Make the seed an axis of every sweep, so that every table has its column."""
    if SEED_KEY in grid.key_names() or not isinstance(base[SEED_KEY], int):
        return grid
    return dataclasses.replace(grid, axes=(*grid.axes, Axis(key=SEED_KEY, values=(base[SEED_KEY],))))


def _typed(grid: Grid, composer: _Composer) -> Grid:
    """Check and type the axes of a grid that was built in Python."""
    axes = tuple(
        dataclasses.replace(a, values=tuple(composer.written_values(a.key, list(a.values))))
        for a in grid.axes
    )
    return dataclasses.replace(grid, axes=axes, parts=tuple(_typed(p, composer) for p in grid.parts))


def _coerced(key: str, value: Any) -> Any:
    if isinstance(value, str) and "${" in value:
        return value
    if key in ("example.rows", "example.ids") and not isinstance(value, (list, tuple)):
        return coerce_key(key, [value])[0]  # one row stands for a list of one
    typed = coerce_key(key, value)
    return list(typed) if isinstance(typed, tuple) else typed


def _check_range(word: Override, value: RangeSweep) -> None:
    """Refuse a range too long to list, before it is listed."""
    start, stop, step = float(value.start or 0), float(value.stop or 0), float(value.step)
    if step == 0:
        raise SpecError(f"{word.input_line!r}: the step of a range must not be 0")
    length = max(0, int((stop - start) / step) + 1)
    if length > MAX_RUNS + 1:
        raise too_large(length - 1, [f"{word.key_or_group} {length - 1:,}"])
    if not length or (length == 1 and start == stop):
        raise SpecError(
            f"axis {word.key_or_group}: {word.input_line!r} is empty; give a range with at least one value"
        )


def _refuse_shuffle(word: Override) -> list[Any]:
    raise SpecError(
        f"{word.input_line!r}: shuffle has no fixed seed; use sweep.subset.runs=N sweep.subset.seed=S"
    )


def _switch(key: str, value: Any) -> bool:
    if value in (True, "on"):
        return True
    if value in (False, "off"):
        return False
    raise SpecError(f"{key}={value!r}: must be on or off")


# Hydra's machinery


def _register_schema() -> None:
    """Offer every key of a run with its default, so that option files state only what differs."""
    ConfigStore.instance().store(name="spec", node=spec_to_dict(RunSpec()), provider="sweeps.spec")


_register_schema()


def _parse(words: Sequence[str]) -> list[Override]:
    parser = OverridesParser.create()
    parsed = []
    for word in words:
        if word.endswith("=") and word.count("=") == 1:
            raise SpecError(f"{word!r}: is empty; give at least one value, such as {word}1,2")
        try:
            parsed += parser.parse_overrides([word])
        except HydraException as error:
            reason = str(error.__cause__ or error).split("\n")[0]
            raise SpecError(
                f"{word!r}: is not an override ({reason}); write key=value or key=value1,value2"
            ) from None
    return parsed


def _open_places(words: Sequence[Override], loader: Any) -> list[Override]:
    """Add what ``hydra.searchpath`` names to the loader; make a sweep file given by its path an option."""
    kept = []
    for word in words:
        value = None if word.is_sweep_override() or word.is_delete() else word.value()
        if word.key_or_group == SEARCH_PATH:
            path = loader.get_search_path()
            for place in value if isinstance(value, list) else [value]:
                path.prepend("command line", str(place), anchor=SearchPathQuery(path=None, provider="schema"))
            loader.repository.initialize_sources(path)
        elif word.key_or_group == "sweep" and isinstance(value, str) and value.endswith((".yaml", ".yml")):
            kept += _parse([f"sweep={_register_file(Path(value).expanduser(), loader)}"])
        else:
            kept.append(word)
    return kept


def _register_file(path: Path, loader: Any) -> str:
    if not path.is_file():
        raise SpecError(
            f"sweep={str(path)!r}: no such file; give a sweep file, or the name of a shipped sweep"
        )
    node = OmegaConf.load(path)
    if not isinstance(node, DictConfig) or "sweep" not in node:
        raise SpecError(f"{path.name}: has no sweep: node; declare the axes below sweep: axes:")
    name = path.stem
    while name in loader.get_group_options("sweep") and not _is_ours(name, path):
        name = f"{name}-own"
    store = ConfigStore.instance()
    store.store(group="sweep", name=name, node=node, package="_global_", provider=f"file://{path.absolute()}")
    return name


def _is_ours(name: str, path: Path) -> bool:
    node = ConfigStore.instance().repo.get("sweep", {}).get(f"{name}.yaml")
    return node is not None and node.provider == f"file://{path.absolute()}"


@contextlib.contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except SpecError:
        raise
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        causes = [error]
        while causes[-1].__cause__ is not None:
            causes.append(causes[-1].__cause__)  # type: ignore[arg-type]
        lines = [line.strip() for line in str(causes[-1]).splitlines() if line.strip()]
        circle = re.search(r"Recursive interpolation.*full_key: (\S+)", " ".join(lines))
        if circle:
            raise SpecError(
                f"{circle[1]}: its references go in a circle; give one of them a value"
            ) from error
        raise SpecError("; ".join(lines[:3])) from error


def _flat_keys(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    keys = []
    for key, value in values.items():
        keys.append(f"{prefix}{key}")
        if isinstance(value, Mapping):
            keys += _flat_keys(value, f"{prefix}{key}.")
    return keys


def completions(words: Sequence[str]) -> list[str]:
    """Return how the last of ``words`` could go on: groups, options, keys; empty when nothing fits.

    Args:
        words: overrides as typed so far, the last one unfinished.
    """
    *before, word = words
    done, _, started = word.rpartition(",")
    group = done.partition("=")[0]
    typed = f"{group}={started}" if done else word
    with contextlib.suppress(SpecError), _opened(before) as (loader, known):
        line = " ".join([*(str(w.input_line) for w in known if not w.is_sweep_override()), typed])
        found = BashCompletion(loader)._query(config_name=CONFIG_NAME, line=line)
        return [f"{done},{choice.partition('=')[2]}" if done else choice for choice in found]
    return []


def show(overrides: Sequence[str], flags: Sequence[str]) -> None:
    """Print what Hydra's own flags print for a configuration: ``--cfg job``, ``--info defaults``.

    Args:
        overrides: words; of a word with several values nothing is shown, for it makes many configurations.
        flags: Hydra's flags.

    Raises:
        SpecError: for a mistake in the words.
    """
    with _opened(overrides) as (loader, words):
        _Composer(loader, words)  # refuses what Hydra would only complain about
        kept = [str(w.input_line) for w in words if not w.is_sweep_override()]
    places = [w for w in overrides if w.startswith(SEARCH_PATH)]
    given = sys.argv
    sys.argv = ["emsweep", *places, *kept, *flags]
    try:
        main()
    finally:
        sys.argv = given


@contextlib.contextmanager
def _opened(overrides: Sequence[str]) -> Iterator[tuple[Any, list[Override]]]:
    """Open Hydra on the shipped configuration; yields its loader and the words."""
    with _translated_errors(), hydra.initialize_config_module(CONFIG_MODULE, version_base=VERSION_BASE):
        loader = GlobalHydra.instance().config_loader()
        yield loader, _open_places(_parse(overrides), loader)


@hydra.main(config_path="conf", config_name=CONFIG_NAME, version_base=VERSION_BASE)
def main(config: DictConfig) -> None:
    """Print the composed configuration; Hydra's own flags (``--cfg``, ``--info``, ``--help``) do the rest."""
    print(OmegaConf.to_yaml(config), end="")


if __name__ == "__main__":
    main()
