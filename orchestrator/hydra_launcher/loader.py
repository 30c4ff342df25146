"""Hydra's loader with a memory: a sweeper has each job composed before any is launched, one by one."""

from __future__ import annotations

from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.config_source import ConfigSource
from omegaconf import DictConfig

from orchestrator.hydra_launcher.configurations import Configurations


class RememberingLoader(ConfigLoader):
    """Looks jobs of one multirun up in :class:`Configurations`; everything else is the loader's own."""

    def __init__(self, loader: ConfigLoader, master: DictConfig, jobs: Configurations) -> None:
        """Stand in for ``loader``, whose multirun has the configuration ``master``."""
        self._loader, self._master, self._jobs = loader, master, jobs

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """A job's configuration.

        Raises:
            HydraException: for an override that Hydra refuses.
        """
        if master_config is self._master:
            return self._jobs.config(sweep_overrides)
        return self._loader.load_sweep_config(master_config, sweep_overrides)

    def load_configuration(self, *args: Any, **options: Any) -> DictConfig:
        return self._loader.load_configuration(*args, **options)

    def get_search_path(self) -> ConfigSearchPath:
        return self._loader.get_search_path()

    def get_sources(self) -> list[ConfigSource]:
        return self._loader.get_sources()

    def list_groups(self, parent_name: str) -> list[str]:
        return self._loader.list_groups(parent_name)

    def get_group_options(self, *args: Any, **options: Any) -> list[str]:
        return self._loader.get_group_options(*args, **options)

    def compute_defaults_list(self, *args: Any, **options: Any) -> Any:
        return self._loader.compute_defaults_list(*args, **options)
