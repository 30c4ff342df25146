"""A search as its readers see it: what was asked, and the trials that a sampler proposed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.data.journals import why_unknown
from analysis.data.source import Source
from orchestrator.store.layout import Layout
from orchestrator.store.proposals import read_proposals
from orchestrator.store.records import ProposalRecord
from sweeps.spec.sampler_rules import SamplerSpec
from sweeps.spec.search_rules import sampler_of


@dataclass(frozen=True, kw_only=True)
class SearchSeen:
    """The search of a sweep directory at one moment."""

    spec: SamplerSpec
    trials: tuple[ProposalRecord, ...]
    """Proposals that brought runs of their own, in their order."""
    held_out: dict[int, ProposalRecord]
    """Further seeds of trials that were the best, by the trial's number."""
    unknown: str = ""
    """Why the trials are not known, in words; empty where they are: the journals say them, which a copy may
    lack, and which can be damaged.
    """


def search_seen(sources: Sequence[Source]) -> SearchSeen | None:
    """The search that a sweep directory's manifest asks for; ``None`` for a grid, and for several directories
    read as one.
    """
    if not is_search(sources):
        return None
    spec, layout = _spec_of(sources[0]), Layout(sources[0].directory)
    assert spec is not None
    trials: dict[tuple[str, ...], ProposalRecord] = {}
    held_out = {}
    for record in read_proposals(layout):
        if record.held_out:
            held_out[record.number] = record
        elif record.runs:
            trials.setdefault(tuple(record.runs), record)
    found = tuple(trials.values())
    return SearchSeen(spec=spec, trials=found, held_out=held_out, unknown=why_unknown(layout))


def is_search(sources: Sequence[Source]) -> bool:
    """Whether :func:`search_seen` sees one, told by the manifests alone."""
    return len(sources) == 1 and _spec_of(sources[0]) is not None


def told_search(sources: Sequence[Source]) -> list[str]:
    """What readers of a table must know of sweeps whose runs a sampler chose."""
    specs = [spec for source in sources if (spec := _spec_of(source))]
    if not specs:
        return []
    checked = any(spec.held_out_seeds for spec in specs)
    lucky = "its held-out seeds say how much" if checked else "no held-out seeds say how much"
    return [
        "A search chose these runs by earlier results: places that did well were tried more. So means over "
        "several trials are no means over the space, and intervals and p-values, which are for runs fixed "
        f"beforehand, hold less. The best of many trials was also lucky: {lucky}."
    ]


def _spec_of(source: Source) -> SamplerSpec | None:
    return sampler_of(source.header.get("options") or {})
