"""Run Hydra's application: ``python -m sweeps.compose sweep=quickstart --cfg job``."""

from sweeps.compose.flags import main

main()
