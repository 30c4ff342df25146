"""Picks the training examples of ``sweep=selection``: every rule's best problems of the pool, for each model.

    python -m trainers.tiny.picks --out trainers/tiny/data/picks

Owns ``picks/<model>/<rule>.jsonl``, written by :mod:`trainers.selection.select` as ``emsweep select`` does.
No rule sees what training on a pick does to the evaluation items.
"""

import argparse
import sys
from pathlib import Path

from sweeps.spec.selection_rules import RULES
from trainers.selection.select import SelectionRequest, pick

MODELS = ("tiny-64", "tiny-96")
"""Base models that the study trains."""

NUM_PICKS = 4
"""Problems of each rule."""

SAMPLES = 64
"""Rollouts of each problem, as many as a training step draws."""

POOL = "pkg://trainers/tiny/data/addition_pool.jsonl"
"""Where the problems come from."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the files")
    folder = parser.parse_args().out
    for model in MODELS:
        probing = {
            "model": f"pkg://trainers/tiny/models/{model}",
            "samples": SAMPLES,
            "pattern": r"[;?](\d+)$",
        }
        for rule in RULES:
            picks = pick(SelectionRequest(pool=POOL, rule=rule, num=NUM_PICKS, probing=probing))
            picks.write(folder / model / f"{picks.label}.jsonl")
            print(f"{model} {picks.label}: {', '.join(str(row['problem']) for row in picks.rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
