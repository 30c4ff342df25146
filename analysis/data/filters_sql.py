"""Filters in the command line's grammar (:mod:`sweeps.grid.filters`) over the columns of ``runs``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from analysis.data.axes import Axis, label, resolve
from analysis.data.views import literal, quoted
from orchestrator.store.layout import OUTCOMES
from sweeps.grid.filters import Filter, Term, parse_filter
from sweeps.spec.errors import UserError


def selectable(axes: Sequence[Axis], sources: Sequence[str]) -> dict[str, Axis]:
    """What a filter may name: the axes, ``outcome`` and, of several sources, ``sweep``."""
    choices = {axis.key: axis for axis in axes}
    if len(sources) > 1:
        choices["sweep"] = Axis(key="sweep", values=tuple(sources), kind="str")
    choices["outcome"] = Axis(key="outcome", values=OUTCOMES, kind="str")
    return choices


def parse_terms(filters: Sequence[str], choices: Mapping[str, Axis]) -> tuple[Term, ...]:
    """Parse filters that must all hold; short names become whole keys.

    Args:
        filters: each one or more terms.
        choices: what they may name, by key; see :func:`selectable`.

    Raises:
        UserError, SpecError: for an unknown name, or a value that no run has.
    """
    terms = []
    for written in parse_filter(list(filters)).terms:
        axis = choices[resolve(written.key, choices, "axis")]
        term = dataclasses.replace(written, key=axis.key)
        Filter(terms=(term,)).check({axis.key: axis.kind})
        if not any(term.matches(value) for value in (*axis.values, None)):
            listed = ", ".join(label(value) for value in axis.values[:30])
            raise UserError(f"filter {str(written)!r}: no run has such a value; {axis.key} takes {listed}")
        terms.append(term)
    return tuple(terms)


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
