"""Which runs a filter means: by their axes and by what became of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orchestrator.store.layout import OUTCOMES
from orchestrator.store.run_index import RunIndex
from sweeps.grid.columns import Column
from sweeps.manifest.manifest import Manifest


def matching(manifest: Manifest, book: RunIndex, filters: Sequence[str]) -> list[int]:
    """Return the runs that satisfy every filter, in order; all of them without one.

    Raises:
        SpecError: for a filter that is none, on an unknown axis, or with a value that no run has.
    """
    codes = np.frombuffer(book.outcome, dtype=np.uint8).astype(np.int32)
    outcome = Column(key="outcome", values=OUTCOMES, kind="str", codes=codes)
    return manifest.matching(filters, also=[outcome])
