"""What a stranger's files, damage and crashes can do.

    python -m tests.benchmarks.trust [--json] [PART …]

``flips``     flipped bits over every file of a small sweep, and how often an answer changed in silence
``file_faults`` files deleted, emptied, cut off, replaced, copied × verbs, and how many answered clearly
``kills``     drivers killed, stopped and joined by a second one, and how many runs were committed twice
``hostile``   crafted directories and configuration files that a user opens, resumes and launches: how many
              there are, how many ran code (``code_run``) and how many wrote files elsewhere (``written``)
``secrets``   usual forms of secrets, how many were hidden, and harmless texts that were changed

Each part is a module with ``measure() -> dict``.
"""

from __future__ import annotations

import argparse
import json
from importlib import import_module

PARTS = ("flips", "file_faults", "kills", "hostile", "secrets")
"""Parts, in the order they run."""


def main() -> None:
    """Measure the parts that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)}; all by default"
    )
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    unknown = [part for part in asked.parts if part not in PARTS]
    if unknown:
        parser.error(f"no part {unknown[0]!r}: choose some of {', '.join(PARTS)}")
    found = {part: import_module(f"tests.benchmarks.trust.{part}").measure() for part in asked.parts or PARTS}
    if asked.json:
        print(json.dumps(found))
        return
    for part, values in found.items():
        print(f"{part:10} " + " · ".join(f"{name} {value}" for name, value in values.items()))


if __name__ == "__main__":
    main()
