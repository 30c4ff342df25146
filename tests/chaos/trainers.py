"""A trainer whose pace a test sets while it runs, the same in every process of a sweep."""

from __future__ import annotations

import os
import time
from pathlib import Path

from trainers.noop import Noop
from trainers.protocol import Cancelled

PACE = "EMSWEEP_TEST_PACE"
"""Environment variable that names a file with the seconds a run takes; without either a run takes no time."""

SLICE_S = 0.02


class Paced(Noop):
    """Answers as ``Noop`` does, but only once a run has taken as long as the file says at that moment."""

    def run(self, spec, context):
        started_s = time.monotonic()
        while (left_s := started_s + _pace_s() - time.monotonic()) > 0:
            if context.cancelled():
                raise Cancelled
            time.sleep(min(left_s, SLICE_S))
            context.heartbeat("at my own pace")
        return super().run(spec, context)


def _pace_s() -> float:
    file = Path(os.environ.get(PACE, ""))
    return float(file.read_text()) if file.is_file() else 0.0
