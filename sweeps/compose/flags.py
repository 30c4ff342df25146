"""What people expect of a Hydra application: its own flags, and completion by the shell."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator, Sequence

import hydra
from omegaconf import DictConfig, OmegaConf

from sweeps.compose.composer import Composer
from sweeps.compose.session import CONFIG_MODULE, CONFIG_NAME, SEARCH_PATH, VERSION_BASE, opened
from sweeps.hydra_internals import possible_endings
from sweeps.spec import SpecError


def completions(words: Sequence[str]) -> list[str]:
    """Return how the last of ``words`` could go on: groups, options, keys; empty when nothing fits.

    Args:
        words: overrides as typed so far, the last one unfinished.
    """
    *before, word = words
    done, _, started = word.rpartition(",")
    group = done.partition("=")[0]
    typed = f"{group}={started}" if done else word
    with contextlib.suppress(SpecError), opened(before) as (loader, known):
        line = " ".join([*(str(w.input_line) for w in known if not w.is_sweep_override()), typed])
        endings = possible_endings(loader, CONFIG_NAME, line)
        return [f"{done},{choice.partition('=')[2]}" if done else choice for choice in endings]
    return []


def show(overrides: Sequence[str], flags: Sequence[str]) -> None:
    """Print what Hydra's own flags print for a configuration: ``--cfg job``, ``--info defaults``.

    Args:
        overrides: words; of a word with several values nothing is shown, for it makes many configurations.

    Raises:
        SpecError: for a mistake in the words.
    """
    with opened(overrides) as (loader, words):
        Composer(loader, words)  # refuses what Hydra would only complain about
        kept = [str(w.input_line) for w in words if not w.is_sweep_override()]
    places = [w for w in overrides if w.startswith(SEARCH_PATH)]
    with _as_process(["emsweep", *places, *kept, *flags]):
        main()


@contextlib.contextmanager
def _as_process(words: Sequence[str]) -> Iterator[None]:
    """Let Hydra take the words and set up logging as if the process were its own, then put both back."""
    loggers = [logging.getLogger(), logging.getLogger("hydra")]
    given, before = sys.argv, [(x.handlers[:], x.level) for x in loggers]
    sys.argv = list(words)
    try:
        yield
    finally:
        sys.argv = given
        for logger, (handlers, level) in zip(loggers, before, strict=True):
            logger.handlers[:] = handlers
            logger.setLevel(level)


@hydra.main(config_path=f"pkg://{CONFIG_MODULE}", config_name=CONFIG_NAME, version_base=VERSION_BASE)
def main(config: DictConfig) -> None:
    """Print the composed configuration; Hydra's own flags (``--cfg``, ``--info``, ``--help``) do the rest."""
    print(OmegaConf.to_yaml(config), end="")
