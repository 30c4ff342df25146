"""Golds that cannot be answered, before a benchmark is used.

    python -m trainers.evaluation.gold_check < eval.json

The evaluation's settings on standard input, the numbers of the items whose gold does not equal itself on
standard output, both JSON. Run in a process of its own, for it imports torch.
"""

from __future__ import annotations

import json
import sys

from sweeps.manifest.row_fields import items_of
from sweeps.spec.run_spec import group_from_dict
from trainers.evaluation.evaluate import unreadable_golds
from trainers.evaluation.grading import Grader


def main() -> None:
    spec = group_from_dict("eval", json.load(sys.stdin))
    grader = Grader(pattern=spec.pattern, timeout_s=spec.timeout_s, rule=spec.grader)
    items = items_of(spec)
    json.dump({"items": len(items), "unreadable": unreadable_golds(items, grader)}, sys.stdout)
    grader.close()


if __name__ == "__main__":
    main()
