"""What Ray reads from the environment once, when it is first imported: access, and what it prints.

A Ray that we start gets a secret of our own, so that other users of this machine stay out of it and no token
is written into the user's home. Ray's prints about lost workers go to standard output, where they would spoil
what scripts read; the driver says the same in its own words.
"""

from __future__ import annotations

import os
import secrets
import sys


def prepare(*, own: bool) -> None:
    """Set the variables, keeping any that the user set; has no effect once Ray is imported."""
    if "ray" in sys.modules:
        return
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".*")
    if own and "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
