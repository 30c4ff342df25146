"""``python -m orchestrator.cli``: the ``emsweep`` command where its script is not on the path."""

import sys

from orchestrator.cli import main

sys.exit(main())
