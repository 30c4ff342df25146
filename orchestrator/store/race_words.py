"""What a race asks and what it came to, in words. Pure."""

from __future__ import annotations

from sweeps.spec.search_rules import RaceSpec
from sweeps.spec.text import counted

_ERRORS = {"fdr": "false discovery rate", "fwer": "chance of any wrong decision"}


def race_text(decided: int, undecided: int, saved: int) -> str:
    """``race: 14 of 24 decided, 10 open; 130 runs saved``: members are cells, or pairs of cells."""
    members = decided + undecided
    return f"race: {decided:,} of {members:,} decided, {undecided:,} open; {counted(saved, 'run')} saved"


def asked_text(spec: RaceSpec, metric: str | None) -> str:
    """The question, its region of no difference and its error rate."""
    about = metric or "the metric"
    match spec.question:
        case "best":
            question = f"which cell is best in {about}"
        case "compare":
            question = f"is each cell of {spec.a} above its like of {spec.b} in {about}"
        case _:
            base = "its base model" if spec.base is None else f"{spec.base:g}"
            question = f"is each cell above {base} in {about}"
    rope = f", differences up to {spec.rope:g} not counted" if spec.rope else ""
    return f"{question}{rope}; {_ERRORS[spec.error]} at most {100 * spec.alpha:g} %"
