"""A trainer whose pace a test sets while it runs, the same in every process of a sweep."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

from trainers.noop import Noop
from trainers.protocol import Cancelled, RunResult

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


class Lingering(Noop):
    """Answers as ``Noop`` does; only the run of seed 0 keeps the pace, the others sleep ``duration_s``."""

    def run(self, spec, context):
        started_s = time.monotonic()
        while spec.seed == 0 and time.monotonic() < started_s + _pace_s():
            time.sleep(SLICE_S)
            context.heartbeat("the last one")
        return super().run(spec, context)


def _pace_s() -> float:
    file = Path(os.environ.get(PACE, ""))
    return float(file.read_text()) if file.is_file() else 0.0


class Telling(Noop):
    """Reports a step every millisecond, as long as the pace says, and notes in ``params.folder`` how many it
    has told of; a run that need not take any time reports three.
    """

    def run(self, spec, context):
        note = Path(spec.trainer.params["folder"]) / f"{spec.run_id}-{context.attempt}"
        started_s, step = time.monotonic(), 0
        with note.open("wb", buffering=0) as told:
            while step < 3 or time.monotonic() - started_s < _pace_s():
                if context.cancelled():
                    raise Cancelled
                context.report(step, loss=1 / (step + 1), nth=context.attempt)
                step += 1
                told.write(b".")
                time.sleep(0.001)
        return {"last": step - 1}


class Rivals(Paced):
    """Scores ``params.effect`` plus luck of spread 1 that depends on seed and effect, at its own pace."""

    def run(self, spec, context):
        super().run(spec, context)
        effect = float(spec.trainer.params["effect"])
        luck = random.Random(f"{spec.seed}/{effect}").gauss(0, 1)
        return RunResult(outcome="done", metrics={"score": effect + luck})
