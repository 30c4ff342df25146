"""One composition: Hydra's result as plain values."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import hydra
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from sweeps.compose.session import CONFIG_NAME, HYDRA_NAME, TARGET
from sweeps.grid.interpolation import settle
from sweeps.spec import SpecError, TrainerSpec, coerce_key, known_keys, nearest
from sweeps.spec.environment import require_no_secret, sealed, unsealed
from sweeps.spec.errors import cut, shown
from sweeps.spec.printable import half_character

FREE_KEYS = ("trainer.params.", "trainer.metrics.", "trainer.patterns.", "data.mix.")
"""Prefixes of keys that an own trainer, or a mix of own sets, makes up."""


TRAINER_KEYS = tuple(f.name for f in dataclasses.fields(TrainerSpec))
"""What a trainer has besides its parameters."""


class Config:
    """One composed configuration as plain values; references to keys of a run stay as text."""

    def __init__(self, config: DictConfig, *, target_given: bool = False) -> None:
        self.choices = {str(k): str(v) for k, v in config.hydra.runtime.choices.items() if "/" not in str(k)}
        OmegaConf.set_struct(config, False)
        del config["hydra"]
        _spell_target(config.get("trainer"), target_given)
        self._config = config
        self.raw: dict[str, Any] = OmegaConf.to_container(config, resolve=False)  # type: ignore[assignment]
        _require_encodable(self.raw)

    def __getitem__(self, key: str) -> Any:
        value = self.raw[key]
        if key == "cluster":
            value = sealed(value)
        elif key == "sweep" and isinstance(value, Mapping):
            value = {**value, "about": sealed(value.get("about"))}
        return unsealed(self.settled(key, value))

    def settled(self, key: str, value: Any) -> Any:
        """What stands at a key, with every reference replaced that does not point into a run."""
        require_no_secret(value, key)
        return settle(value, (key,), self._look_up, self._resolve, decoded)

    def _look_up(self, key: str) -> Any:
        try:
            value = OmegaConf.select(self._config, key)
        except InterpolationResolutionError as error:
            if "Recursive interpolation" not in str(error):
                raise
            raise SpecError(f"${{{key}}} leads back to itself; give one key in the circle a value") from None
        require_no_secret(self._written(key), key)
        if value is None:
            raise SpecError(f"${{{key}}} has no value{nearest(key, self.keys())}; set it or refer to another")
        return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value

    def _written(self, key: str) -> Any:
        """What stands at a dotted key, references and all."""
        found: Any = self.raw
        for part in key.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        return found

    def _resolve(self, text: str) -> Any:
        value = OmegaConf.create({"value": text}).value
        return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value

    def keys(self) -> list[str]:
        """Every dotted key."""
        return _flat_keys(self.raw)


def decoded(path: Sequence[str], value: Any) -> Any:
    """What a reference stood for, as its key holds it: the environment knows texts only.

    Args:
        path: where the value stands, its key whole or in parts.
    """
    names = [".".join(path[start:]).removesuffix(".values") for start in range(len(path))]
    key = next((name for name in names if name in known_keys()), None)
    if key is None or not isinstance(value, str):
        return value
    try:
        coerce_key(key, value)
    except SpecError:
        with contextlib.suppress(OmegaConfBaseException, SpecError):
            number = OmegaConf.create({"text": value, "value": "${oc.decode:${text}}"}).value
            plain = OmegaConf.to_container(number) if OmegaConf.is_config(number) else number
            coerce_key(key, plain)
            return plain
    return value


@contextlib.contextmanager
def hydra_complains(about: str) -> Iterator[None]:
    """Say in one line what Hydra's own code stumbles over, which checks little of what it is given."""
    try:
        yield
    except SpecError:
        raise
    except (ValueError, TypeError, AssertionError, AttributeError, RecursionError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SpecError(f"{cut(about)}: Hydra cannot compose it ({cut(reason)})") from error


def _require_encodable(value: Any, key: str = "") -> None:
    """Refuse half a character in any key or value, for nothing could write it down."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _require_encodable(str(name), f"a key of {key or 'the configuration'}")
            _require_encodable(inner, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list):
        for inner in value:
            _require_encodable(inner, key)
    elif isinstance(value, str) and half_character(value) is not None:
        raise SpecError(f"{key}={shown(value)}: holds half a character; mend the text")


def composed(words: Sequence[Override]) -> Config:
    """Compose the configuration that ``words`` ask for, none of them with several values."""
    # A free parameter need not exist yet: ++ sets it either way.
    lines = [
        f"++{w.input_line}"
        if w.key_or_group.startswith(FREE_KEYS) and w.get_key_element()[0] != "+"
        else str(w.input_line)
        for w in words
    ]
    given = any(w.key_or_group == TARGET for w in words)
    with hydra_complains(" ".join(map(str, lines))):
        config = hydra.compose(CONFIG_NAME, overrides=lines, return_hydra_config=True)
    return Config(config, target_given=given)


def _spell_target(trainer: Any, given: bool) -> None:
    """Move ``trainer._target_`` to ``trainer.target``, unless a word of the command line named another."""
    if not isinstance(trainer, DictConfig) or HYDRA_NAME not in trainer:
        return
    written = trainer.pop(HYDRA_NAME)
    flat = [str(key) for key in trainer if key not in TRAINER_KEYS]
    if flat:
        raise SpecError(
            f"trainer.{flat[0]}: unknown key; what an own trainer takes goes below params: "
            f"trainer: {{_target_: {written}, params: {{{flat[0]}: …}}}}"
        )
    if given:
        return
    if trainer.target not in (TrainerSpec().target, written):
        raise SpecError(f"trainer: has target {trainer.target!r} and _target_ {written!r}; keep one of them")
    trainer.target = written


def _flat_keys(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    keys = []
    for key, value in values.items():
        keys.append(f"{prefix}{key}")
        if isinstance(value, Mapping):
            keys += _flat_keys(value, f"{prefix}{key}.")
    return keys
