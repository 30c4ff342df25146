"""Each job's configuration, without composing it job by job.

Composing takes Hydra tens of milliseconds, most of a small job. Words that choose options of a group, add or
remove keys or touch Hydra's own part are left to it, once per distinct set of them; words that only set a
value are applied to a copy of what it composed, as Hydra itself does at the end of a composition. A copy is
unpickled, a sixth of the time of a deep copy.
"""

from __future__ import annotations

import copy
import math
import pickle
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cloudpickle
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict, read_write

from sweeps.hydra_internals import plain_value

MAX_KEPT = 256
"""Composed configurations kept, about 100 KiB each."""

INTEGER = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)=([+-]?(?:0|[1-9][0-9]*))", re.ASCII)
"""Words that give a key a whole number, such as seeds: the many words of a grid. Hydra's parser, which takes
milliseconds for each, reads them the same way.
"""


class Word(NamedTuple):
    """One override of a job."""

    key: str
    value: Any
    sets_value: bool
    """Whether it does nothing but set a value of the application's configuration."""
    ours: bool
    """Whether it is the application's, not Hydra's."""


class _Composed(NamedTuple):
    config: bytes
    ours: bytes
    content: dict[str, Any]


class Configurations:
    """Looks up the configurations of one application's jobs."""

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        self._loader, self._master = loader, master
        self._parser = OverridesParser.create()
        self._words: dict[str, Word] = {}
        self._is_group: dict[str, bool] = {}
        self._composed: dict[tuple[str, ...], _Composed] = {}
        self._settings: dict[tuple[tuple[str, ...], str], tuple[list[str], Any]] = {}

    def words(self, overrides: Sequence[str]) -> list[Word]:
        return [self._word(text) for text in overrides]

    def content(self, overrides: Sequence[str]) -> dict[str, Any]:
        """What a job's configuration says, Hydra's part left out and references unresolved, as JSON values.

        Raises:
            HydraException: for an override that Hydra refuses.
        """
        chosen, settings = self._split(overrides)
        content = copy.copy(self._compose(chosen).content)
        for text in settings:
            path, value = self._setting(chosen, text)
            _put(content, path, value)
        return content

    def config(self, overrides: Sequence[str]) -> DictConfig:
        """A job's configuration, equal to what Hydra composes for these words.

        Raises:
            HydraException: for an override that Hydra refuses.
        """
        chosen, settings = self._split(overrides)
        config: DictConfig = pickle.loads(self._compose(chosen).config)
        for text in settings:
            self._setting(chosen, text)  # refuses what Hydra refuses, in its words
            word = self._word(text)
            OmegaConf.update(config, word.key, word.value, merge=True)
        ours = [text for text in overrides if self._word(text).ours]
        with read_write(config), open_dict(config):
            config.hydra.overrides.task = ours
            config.hydra.job.override_dirname = self._dirname(ours, config.hydra.job.config.override_dirname)
        OmegaConf.copy_cache(from_config=self._master, to_config=config)
        return config

    def _dirname(self, overrides: Sequence[str], rules: DictConfig) -> str:
        kept = sorted(text for text in overrides if self._word(text).key not in rules.exclude_keys)
        return re.sub("=", lambda _: rules.kv_sep, rules.item_sep.join(kept))

    def _split(self, overrides: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
        """Words for Hydra, and words that set a value."""
        chosen = tuple(text for text in overrides if not self._word(text).sets_value)
        return chosen, [text for text in overrides if self._word(text).sets_value]

    def _word(self, text: str) -> Word:
        word = self._words.get(text)
        if word is None:
            number = INTEGER.fullmatch(text)
            if number and not number[1].startswith("hydra."):
                word = Word(number[1], int(number[2]), not self._names_group(number[1]), True)
            else:
                parsed = self._parser.parse_override(text)
                ours = not parsed.is_hydra_override()
                word = Word(parsed.key_or_group, parsed.value(), ours and self._sets_value(parsed), ours)
            self._words[text] = word
        return word

    def _sets_value(self, word: Override) -> bool:
        key = word.key_or_group
        if word.is_delete() or word.is_add() or word.is_force_add() or word.package is not None:
            return False
        return "[" not in key and not self._names_group(key)

    def _names_group(self, key: str) -> bool:
        if key not in self._is_group:
            self._is_group[key] = bool(self._loader.get_group_options(key))
        return self._is_group[key]

    def _compose(self, chosen: tuple[str, ...]) -> _Composed:
        composed = self._composed.get(chosen)
        if composed is None:
            config = self._loader.load_sweep_config(self._master, list(chosen))
            ours = OmegaConf.masked_copy(config, [str(k) for k in config if k != "hydra"])
            if len(self._composed) >= MAX_KEPT:
                del self._composed[next(iter(self._composed))]
            content = json_value(OmegaConf.to_container(ours))
            composed = _Composed(cloudpickle.dumps(config), cloudpickle.dumps(ours), content)
            self._composed[chosen] = composed
        return composed

    def _setting(self, chosen: tuple[str, ...], text: str) -> tuple[list[str], Any]:
        """Where a word puts a value, and the value as the composed configuration holds it."""
        setting = self._settings.get((chosen, text))
        if setting is None:
            word, path = self._word(text), self._word(text).key.split(".")
            config: DictConfig = pickle.loads(self._compose(chosen).ours)
            if not plain_value(config, path)[0]:
                self._loader.load_sweep_config(self._master, [*chosen, text])  # Hydra says what is wrong
            OmegaConf.update(config, word.key, word.value, merge=True)
            setting = self._settings[chosen, text] = (path, json_value(plain_value(config, path)[1]))
        return setting


def json_value(value: Any) -> Any:
    """A configuration's value as a JSON value: what JSON lacks becomes text."""
    if isinstance(value, (Mapping, DictConfig)):
        return {str(k): json_value(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, ListConfig)):
        return [json_value(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _put(content: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Set a nested value, copying the mappings on the way, which others share."""
    for part in path[:-1]:
        content[part] = copy.copy(content[part])
        content = content[part]
    content[path[-1]] = value
