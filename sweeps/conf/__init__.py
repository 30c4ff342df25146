"""Hydra configuration: one folder a group, one file an option; ``run.yaml`` names the defaults."""
