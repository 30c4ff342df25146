"""What is used of Hydra and OmegaConf that they do not promise to keep: all of it is here.

A test holds every name against the versions below. It lies outside :mod:`sweeps.compose`, which would add our
schema to the configurations of an application that only uses the launcher.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hydra._internal.core_plugins.bash_completion import BashCompletion
from hydra.core.config_search_path import SearchPathQuery
from omegaconf import Container, DictConfig, OmegaConf
from omegaconf.basecontainer import BaseContainer

CHECKED_VERSIONS = {"hydra-core": "1.3.8", "omegaconf": "2.3.1"}
"""The versions whose source the names here were read in."""


def possible_endings(loader: Any, config_name: str, line: str) -> list[str]:
    """How the last word of a line of overrides could go on, as the shell's completion offers it."""
    return list(BashCompletion(loader)._query(config_name=config_name, line=line))


def group_options(loader: Any, group: str) -> list[str]:
    """Options of a group. A loader's own method copies all that is registered first: 30 ms a call."""
    return list(loader.repository.get_group_options(group))


def search_first(loader: Any, folder: str) -> None:
    """Have a loader look for option files in a folder too, before those of our schema."""
    path = loader.get_search_path()
    path.prepend("command line", folder, anchor=SearchPathQuery(path=None, provider="schema"))
    loader.repository.initialize_sources(path)


def on_load(loader: Any, change: Callable[[str, Any], None]) -> None:
    """Have a loader show what it reads, by its path below the search path, before anybody else sees it; and
    read each file once, however often it composes.
    """
    read, known = loader.repository.load_config, dict[str, Any]()

    def load_config(config_path: str) -> Any:
        if config_path not in known:
            known[config_path] = result = read(config_path)
            if result is not None:
                change(config_path, result)
        return copy.deepcopy(known[config_path])  # composing changes what it is given

    loader.repository.load_config = load_config


def plain_value(config: DictConfig, path: Sequence[str]) -> tuple[bool, Any]:
    """Whether a configuration has a node at a path, and what it holds, references unresolved."""
    node: Any = config
    for part in path:
        node = node._get_node(part) if isinstance(node, DictConfig) and part in node else None
    if node is None:
        return False, None
    return True, OmegaConf.to_container(node) if isinstance(node, Container) else node._value()


def resolvers() -> dict[str, Callable[..., Any]]:
    """Every resolver of this process by its name, in the form that :func:`add_resolvers` takes."""
    return dict(BaseContainer._resolvers)


def add_resolvers(resolvers: Mapping[str, Callable[..., Any]]) -> None:
    """Add the resolvers of another process, those whose name this one knows excepted."""
    BaseContainer._resolvers.update({k: v for k, v in resolvers.items() if not OmegaConf.has_resolver(k)})
