"""``python -m emsweep`` and the command ``emsweep``: names a user's folder that is in the way, if one is."""

from __future__ import annotations

import sys

from emsweep import origins

BAD_INPUT = 2
"""Exit status of :data:`sweeps.spec.errors.EXIT_BAD_INPUT`, which cannot be imported before the check."""


def main() -> int:
    """Run one command and return its exit status."""
    try:
        notes = origins().claim()
    except ImportError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    for text in notes:
        print(f"note: {text}", file=sys.stderr)
    from orchestrator.cli import main as run_command

    return run_command()


if __name__ == "__main__":
    sys.exit(main())
