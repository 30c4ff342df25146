"""What one's own code meets at the door.

    python -m tests.benchmarks.frontdoor [--json] [--quick]

``odd_results``  kinds of return values, metrics and exceptions (:mod:`tests.benchmarks.odd_results`), each
                 in two runs of one sweep: how many kinds there are, workers and drivers ``lost``, kinds whose
                 runs or table rows are not as they must be (``wrong``), and whether the tables are
                 ``complete``
``report_us``    processor microseconds of a call of ``report`` in a trainer, ``script_report_us`` in a script
                 (:mod:`tests.benchmarks.reporting`)
``function_runs_per_s``, ``command_overhead_ms``, ``commands_lost``, ``commands_doubled``
                 what functions and commands cost, and 10,000 no-op commands under 20 driver kills
                 (:mod:`tests.benchmarks.own_code`; some ten minutes, a tenth of it with ``--quick``)
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from tests.benchmarks.odd_results import FAILS, KINDS
from tests.benchmarks.own_code import command_overhead_ms, commands_under_kills, function_runs_per_s
from tests.benchmarks.reporting import report_us, script_report_us

SEEDS = 2


def odd_results(folder: Path) -> dict[str, Any]:
    """Launch a sweep of every kind on local workers and compare its tables with what must be there."""
    from analysis import open_sweep

    words = {
        "trainer": {"_target_": "tests.benchmarks.odd_results.Odd", "params": {"kind": "number"}},
        "sweep": {
            "about": "odd results",
            "axes": {"trainer.params.kind": list(KINDS), "seed": f"range({SEEDS})"},
        },
    }
    sweep_file = folder / "odd.yaml"
    sweep_file.write_text("# @package _global_\n" + yaml.safe_dump(words, sort_keys=False))
    directory = folder / "odd"
    launched = _emsweep("launch", f"sweep={sweep_file}", "--dir", str(directory), "--pool", "local",
                        "--allow-target", "tests.benchmarks", "--yes", "--json")  # fmt: skip
    if launched.returncode not in (0, 1):
        raise SystemExit(f"the sweep was not launched: {launched.stderr}")
    verified = _emsweep("verify", str(directory), "--json")
    log = (directory / "logs" / "driver-00001.log").read_text()
    runs = open_sweep(directory).runs()
    steps = open_sweep(directory).steps()
    wrong = [kind for kind in KINDS if not _as_it_must_be(kind, runs[runs["trainer.params.kind"] == kind])]
    return {
        "kinds": len(KINDS),
        "lost": log.count("worker lost") + (launched.returncode not in (0, 1)),
        "wrong": wrong,
        "complete": len(runs) == SEEDS * len(KINDS)
        and len(steps) == 2 * SEEDS
        and verified.returncode in (0, 1),
    }


def _as_it_must_be(kind: str, rows: Any) -> bool:
    expected = KINDS[kind][1]
    for row in rows.to_dict("records"):
        if expected is FAILS:
            if row["outcome"] not in ("failed", "quarantined") or not row["error"]:
                return False
        elif row["outcome"] != "done" or not all(_same(row.get(k), v) for k, v in expected.items()):
            return False
    return len(rows) == SEEDS


def _same(found: Any, expected: Any) -> bool:
    return bool(found == expected)


def _emsweep(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", *words], capture_output=True, text=True, check=False
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="A tenth of the runs.")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        found: dict[str, Any] = {
            "odd_results": odd_results(Path(scratch)),
            "report_us": round(report_us(Path(scratch)), 1),
            "script_report_us": round(script_report_us(), 1),
        }
        for part in (function_runs_per_s, command_overhead_ms, commands_under_kills):
            found |= part(Path(scratch), quick=args.quick)
    print(json.dumps(found, indent=None if args.json else 2))


if __name__ == "__main__":
    main()
