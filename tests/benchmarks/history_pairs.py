"""Does a run have the same bits whatever its worker computed before?

    python -m tests.benchmarks.history_pairs --json

For every layout a fresh process computes it first, which gives its bits when cold. Then it computes every
other layout right after it, with all engines built anew, and the bits are compared with those of that
layout's own process. ``history_pairs_equal`` counts the ordered pairs that agree, of ``history_pairs``;
``history_pairs_differing`` names the others.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.benchmarks.figures import print_figures

LAYOUTS: dict[str, dict[str, Any]] = {
    f"zero{stage}-{precision}-{adapter}": {
        "engine": {"zero_stage": stage, "precision": precision},
        "model": {"adapter": adapter},
    }
    for stage in (0, 1, 2, 3)
    for precision in ("fp32", "bf16")
    for adapter in ("none", "lora")
    if stage or precision == "fp32"  # bf16 needs the fp32 masters that ZeRO keeps
}
"""ZeRO stage × precision × all weights or LoRA."""

PROCESSES = 2
"""Layouts computed at the same time."""


def digests_after(trainer: Any, first: str, others: Sequence[str]) -> dict[str, str]:
    """Digest of the numbers of ``first`` by this worker, and of each other layout right after it."""
    from tests.trainers.comparing import numbers
    from tests.trainers.worlds import tiny_spec
    from trainers.protocol import RunContext

    def digest(name: str) -> str:
        spec = tiny_spec(steps=2, eval={"steps": [2], "limit": 8}, **LAYOUTS[name])
        result = trainer.run(spec, RunContext()).to_json()
        trainer.engines.close()
        return hashlib.sha256(json.dumps(numbers(result), sort_keys=True).encode()).hexdigest()

    digests = {first: digest(first)}
    for other in others:
        digests[other] = digest(other)
        if digest(first) != digests[first]:
            raise RuntimeError(f"{first} has other bits after {other} than before it")
    return digests


def in_fresh_process(first: str, others: Sequence[str]) -> dict[str, str]:
    """:func:`digests_after` of a worker that has computed nothing before, in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.history_pairs", "--first", first, "--then", *others]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{first}, then {', '.join(others)}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def history_pairs(layouts: Sequence[str] = tuple(LAYOUTS)) -> dict[str, Any]:
    """Compare every ordered pair of layouts; a few seconds a layout to start, and a second a pair."""
    with ThreadPoolExecutor(PROCESSES) as threads:
        digests = dict(
            zip(
                layouts,
                threads.map(
                    lambda first: in_fresh_process(first, [b for b in layouts if b != first]), layouts
                ),
                strict=True,
            )
        )
    pairs = [(first, then) for first in layouts for then in layouts if first != then]
    differing = [
        f"{then} after {first}" for first, then in pairs if digests[first][then] != digests[then][then]
    ]
    return {
        "history_pairs_equal": len(pairs) - len(differing),
        "history_pairs": len(pairs),
        "history_pairs_differing": differing,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument(
        "--first", choices=LAYOUTS, help="compute this layout in this process, then the others"
    )
    parser.add_argument("--then", choices=LAYOUTS, nargs="*", default=[], help="layouts to compute after it")
    arguments = parser.parse_args()
    if arguments.first:
        from trainers.policy_trainer import PolicyTrainer
        from trainers.protocol import WorkerContext

        trainer = PolicyTrainer(WorkerContext())
        print(json.dumps(digests_after(trainer, arguments.first, arguments.then)))
    else:
        print_figures(history_pairs(), as_json=arguments.json)


if __name__ == "__main__":
    main()
