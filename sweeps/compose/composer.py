"""From words to a base configuration and the options that axes name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweeps import conf
from sweeps.compose.config import FREE_KEYS, Config, composed, hydra_complains
from sweeps.compose.params import refuse_undeclared
from sweeps.compose.session import parse
from sweeps.compose.unread import refuse_hydra_node, refuse_hydra_words, refuse_unread_keys
from sweeps.compose.values import coerced, values_of
from sweeps.grid.grid import Grid
from sweeps.grid.resolve_configs import Layers
from sweeps.grid.sweep_file import Declared
from sweeps.hydra_internals import group_options
from sweeps.spec import GROUPS, SCALARS, SpecError, known_keys, nearest
from sweeps.spec.errors import cut, shown

METRICS = "trainer.metrics"
"""Key below which the sweep file says what its trainer's metrics are."""


class Composer:
    """Composes configurations for one set of words; each distinct choice of options once."""

    def __init__(self, loader: Any, words: Sequence[Override]) -> None:
        self._loader = loader
        self._words = words
        self._groups = [*GROUPS, *(g for g in loader.list_groups("") if g not in GROUPS and g != "hydra")]
        self.swept_keys = {w.key_or_group for w in words if w.is_sweep_override()}
        chosen = [w.value() for w in words if w.key_or_group == "sweep" and not w.is_sweep_override()]
        self.sweep = str(chosen[-1]) if chosen and chosen[-1] else None
        self._check_words()
        self._check_file()
        refuse_undeclared(words, composed)
        self.base = self._composed_base()
        for group in GROUPS:
            if not isinstance(given := self.base.raw.get(group), Mapping):
                option = "none" if given is None and group == "eval" else given
                raise SpecError(
                    f"{group}={shown(given)}: is no mapping of settings; a sweep file chooses an option with "
                    f"`defaults: [override /{group}: {cut(str(option))}]`"
                )
        referring = [w for w in words if w.is_sweep_override() and "${" in str(w.input_line)]
        refuse_unread_keys(self.base.raw, self._groups, words, [values_of(w, loader) for w in referring])

    @property
    def source(self) -> Path | None:
        if self.sweep is None:
            return None
        result = self._loader.repository.load_config(f"sweep/{self.sweep}")
        provider = result.provider if result else ""
        if provider.startswith("file://"):
            return Path(provider.removeprefix("file://"))
        folder = result.path.removeprefix("file://") if result else ""
        if folder.startswith("pkg://"):
            folder = str(Path(conf.__file__).parent)
        candidates = [Path(folder), Path(folder) / f"sweep/{self.sweep}.yaml"]
        return next((c for c in candidates if c.is_file()), None)

    # What the words and the file may say

    def _check_file(self) -> None:
        """Refuse settings of Hydra's own in the sweep file."""
        with hydra_complains(f"sweep={self.sweep}"):
            result = self._loader.repository.load_config(f"sweep/{self.sweep}") if self.sweep else None
        if result is not None and isinstance(result.config, DictConfig):
            groups = [str(getattr(d, "group", "") or "").lstrip("/") for d in result.defaults_list or ()]
            node = OmegaConf.to_container(result.config, resolve=False)
            refuse_hydra_node(cast(Mapping[str, Any], node), groups, f"sweep={self.sweep}")

    def _check_words(self) -> None:
        """Refuse unknown keys, groups and options before anything is composed."""
        refuse_hydra_words(self._words)
        for word in self._words:
            key = word.key_or_group
            if word.is_delete():
                raise SpecError(f"{word.input_line!r}: nothing can be removed; give {key} one value instead")
            if word.is_sweep_override():
                _refuse_metrics(key)
            if key in self._groups:
                for option in values_of(word, self._loader):
                    self._check_option(key, option)
            elif self._is_run_key(key):
                for value in values_of(word, self._loader):
                    coerced(key, value)
            elif word.is_sweep_override():
                self._check_other_key(word)
            if word.is_sweep_override() and key not in GROUPS and not self._is_run_key(key):
                raise SpecError(
                    f"{word.input_line!r}: {key} is not part of a run and cannot be an axis; give one value"
                )

    def _composed_base(self) -> Config:
        """What the words with one value ask for; an unknown key among them is refused in our words.

        Hydra composes what has none: that it is known need not be composed once more.
        """
        try:
            return composed([w for w in self._words if not w.is_sweep_override()])
        except (SpecError, HydraException, OmegaConfBaseException):
            for word in self._words:
                if word.key_or_group not in self._groups and not self._is_run_key(word.key_or_group):
                    self._check_other_key(word)
            raise

    def _is_run_key(self, key: str) -> bool:
        return key in known_keys() or key.startswith(FREE_KEYS)

    def _check_option(self, group: str, option: Any) -> None:
        known = group_options(self._loader, group)
        if option is None and "none" in known:
            raise SpecError(f"{group}=null: is no option; choose {group}=none")
        if not isinstance(option, str) or option not in known:
            close = nearest(str(option), known)
            raise SpecError(
                f"{group}={cut(str(option))}: unknown {group}{close}; choose one of {', '.join(known)}"
            )

    def _check_other_key(self, word: Override) -> None:
        key = word.key_or_group
        options = [w for w in self._words if w.key_or_group in self._groups and not w.is_sweep_override()]
        known = [*self._groups, *known_keys(), *composed(options).keys()]
        if key not in known and not word.is_add():
            raise SpecError(f"unknown key {shown(key)}{nearest(key, known)}")

    # Values

    def given(self) -> list[tuple[str, list[Any]]]:
        """Keys of runs that the words set, with their values."""
        words = [w for w in self._words if w.key_or_group in GROUPS or self._is_run_key(w.key_or_group)]
        return [
            (w.key_or_group, self.checked_values(w.key_or_group, values_of(w, self._loader))) for w in words
        ]

    def written_values(self, key: str, written: Any) -> list[Any]:
        """Values of an axis as a sweep file writes them: a list, one value, or text in override grammar."""
        _refuse_metrics(key)
        if key not in GROUPS and not self._is_run_key(key):
            known = [*GROUPS, *known_keys()]
            raise SpecError(f"axis {key}: unknown key{nearest(key, known)}")
        if isinstance(written, str) and "${" not in written:
            written = values_of(parse([f"{key}={written}"])[0], self._loader)
        return self.checked_values(key, written if isinstance(written, list) else [written])

    def checked_values(self, key: str, values: Sequence[Any]) -> list[Any]:
        """Refuse unknown options and values of the wrong type; numbers take the type of their key."""
        values = [self.base.settled(key, value) for value in values]
        if key in GROUPS:
            for option in values:
                self._check_option(key, option)
            return values
        return [coerced(key, v) for v in values]

    # Layers

    def layers(self, declared: Declared) -> Layers:
        """Compose each option that an axis or a rule names, everything else as in the base."""
        base = {g: self.base[g] for g in (*GROUPS, *SCALARS)}
        named: dict[str, dict[str, Mapping[str, Any]]] = {}
        for group, option in _named_options(declared):
            if option not in named.setdefault(group, {}):
                named[group][option] = (
                    base[group] if option == self.base.choices.get(group) else self._option(group, option)
                )
        for group, options in named.items():  # sub-grids that do not set a group have the base's
            options.setdefault(self.base.choices.get(group, ""), base[group])
        return Layers(base=base, options=named, rules=declared.rules)

    def _option(self, group: str, option: str) -> Mapping[str, Any]:
        words = [w for w in self._words if w.key_or_group != group and not w.is_sweep_override()]
        config = composed([*words, *parse([f"{group}={option}"])])
        for other in config.raw:
            if other not in (group, "sweep") and config.raw[other] != self.base.raw.get(other):
                raise SpecError(
                    f"{group}={option}: its option file also changes {other}, which an axis cannot; "
                    f"use set: [{{when: {group}={option}, {other}: …}}] in the sweep file"
                )
        composed_group: Mapping[str, Any] = config[group]
        return composed_group


def _refuse_metrics(key: str) -> None:
    """Refuse what metrics are as something in which runs differ: tables read it once for the whole sweep."""
    if key == METRICS or key.startswith(f"{METRICS}."):
        raise SpecError(
            f"{cut(key)}: cannot be an axis or differ between runs, since it says what a metric is in all of "
            "them; give it one value, outside of the sweep's axes and rules"
        )


def _named_options(declared: Declared) -> Iterator[tuple[str, str]]:
    def axes(grid: Grid) -> Iterator[tuple[str, Any]]:
        for a in grid.axes:
            yield from ((a.key, v) for v in a.values if a.key in GROUPS)
        for part in grid.parts:
            yield from axes(part)

    yield from axes(declared.grid)
    for rule in declared.rules:
        yield from ((k, v) for k, v in rule.assign.items() if k in GROUPS)
