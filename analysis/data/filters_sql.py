"""Filters in the command line's grammar (:mod:`sweeps.grid.filters`) over the columns of ``runs``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from analysis.data.views import literal, quoted
from orchestrator.store.layout import OUTCOMES
from sweeps.grid.axes import Axis
from sweeps.grid.filters import Pattern, Term, as_text, is_number


def selectable(axes: Sequence[Axis], sources: Sequence[str]) -> dict[str, Axis]:
    """What a filter may name: the axes, ``outcome`` and, of several sources, ``sweep``."""
    choices = {axis.key: axis for axis in axes}
    if len(sources) > 1:
        choices["sweep"] = Axis(key="sweep", values=tuple(sources), kind="str")
    choices["outcome"] = Axis(key="outcome", values=OUTCOMES, kind="str")
    return choices


def to_sql(terms: Sequence[Term], choices: Mapping[str, Axis]) -> str:
    """SQL over the columns of ``runs`` that holds where every term does."""
    parts = []
    for term in terms:
        column = quoted([term.key])
        matching = [value for value in choices[term.key].values if value is not None and term.matches(value)]
        either = [f"{column} IN ({', '.join(map(literal, matching))})"] if matching else []
        either += [f"{column} IS NULL"] if term.matches(None) else []
        parts.append(f"({' OR '.join(either)})")
    return " AND ".join(parts) or "true"


def comparison_sql(term: Term, *, is_text: bool) -> str:
    """SQL of one term over a column whose values are not listed anywhere; null matches only ``null``."""
    column, choices = quoted([term.key]), []
    for value in term.values:
        if value is None:
            choices.append(f"{column} IS NULL")
        elif term.op != "=":
            choices.append(f"{column} {term.op} {literal(value)}" if not is_text else "false")
        elif is_text and isinstance(value, Pattern):
            parts = [re.sub(r"([\\%_])", r"\\\1", part) for part in value.parts]
            choices.append(f"{column} LIKE {literal('%'.join(parts))} ESCAPE '\\'")
        elif is_text or is_number(value):
            choices.append(f"{column} = {literal(as_text(value) if is_text else value)}")
        else:
            choices.append("false")
    either = f"coalesce({' OR '.join(choices)}, false)"
    return f"NOT {either}" if term.negated else either
