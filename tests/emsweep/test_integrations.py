"""The training loops of other libraries, in a process of their own: each leaves process groups, a device and
variables behind, which no other test should find.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

OURS = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
"""Variables that a trainer of this process may have set for DeepSpeed: the loops would join its ranks."""


@pytest.mark.timeout(600)
@pytest.mark.slow
def test_report_works_in_the_training_loops_of_other_libraries():
    apart = Path(__file__).with_name("integrations_apart.py")
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(apart)],
        cwd=root,
        env={n: v for n, v in os.environ.items() if n not in OURS and not n.startswith("PYTEST_")},
        capture_output=True,
        text=True,
        timeout=580,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
