"""``python -m orchestrator.cli``: the ``emsweep`` command where its script is not on the path."""

import os
import sys

from orchestrator.cli import main
from orchestrator.worker.process_env import OUR_ROOT

# `python -m` puts the current folder first, where any file might stand in for a library's.
if sys.path[0] == os.getcwd() != str(OUR_ROOT):  # noqa: PTH109
    sys.path.append(sys.path.pop(0))

sys.exit(main())
