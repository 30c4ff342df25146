"""Ranks a pool of problems by a rule and writes the best as an example file. Owns that file.

One JSON object a line, best first: the pool's own fields, and ``selection``: the rule's label, the rank, the
score, the row of the pool and every statistic that was measured. Labels of rules that read right answers end
in ``-labelled``, in the file, its name and every table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sweeps.manifest.atomic import write_atomically
from sweeps.manifest.row_fields import Source, answer_of, question_of
from sweeps.manifest.row_files import read_rows
from sweeps.spec.cross_checks import require_pattern
from sweeps.spec.errors import SpecError, choice, require
from sweeps.spec.selection_rules import (
    RULES,
    Curation,
    accuracy_std,
    label_of,
    majority_p1p,
    pass_variance,
    random_scores,
    top,
)


@dataclass(frozen=True, kw_only=True)
class SelectionRequest:
    """What to pick, and how."""

    pool: str
    """JSON-lines, CSV or Parquet file of problems."""
    rule: str
    """One of :data:`sweeps.spec.selection_rules.RULES`."""
    num: int = 5
    lowest: bool = False
    text_field: str = "problem"
    answer_field: str | None = None
    """Column of the right answer; rules that need one take ``answer`` unless told."""
    k: int = 1
    """Rollouts that count together in ``pass_variance``."""
    passes: int = 8
    """Passes of training over the pool for ``accuracy_std``."""
    seed: int = 0
    probing: Mapping[str, Any] = field(default_factory=dict)
    """Fields of :class:`trainers.selection.pool_scorer.Probing` for rules that need a model."""
    curation: Curation = field(default_factory=Curation)
    """How the rounds of ``boosting`` go."""


@dataclass(frozen=True, kw_only=True)
class Picks:
    """The problems picked."""

    label: str
    """The rule's name; ends in ``-labelled`` where right answers were read."""
    supervised: bool
    num_problems: int
    rows: Sequence[Mapping[str, Any]]
    """Lines of the example file, best first."""

    def write(self, path: Path) -> None:
        """Write the example file; it appears complete or not at all.

        Raises:
            SpecError: if it cannot be written.
        """
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in self.rows)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, text.encode())
        except OSError as error:
            raise SpecError(
                f"--out {str(path)!r}: cannot be written ({error.strerror}); choose another"
            ) from None


def pick(request: SelectionRequest) -> Picks:
    """Rank the pool and return the best.

    Raises:
        SpecError: for an unknown rule, a pool that cannot be read, or a missing column.
    """
    choice("--by", request.rule, RULES)
    require(request.num >= 1, "--top", request.num, "must be at least 1")
    samples = request.probing.get("samples", 1)
    require(samples >= 1, "--samples", samples, "must be at least 1")
    if request.rule == "pass_variance":
        require(
            1 <= request.k <= samples,
            "--k",
            request.k,
            f"must lie in 1 … {samples}, the rollouts of --samples",
        )
    if request.rule == "accuracy_std":
        require(samples >= 2, "--samples", samples, "must be at least 2, for it trains by comparing them")
        require(request.passes >= 2, "--passes", request.passes, "must be at least 2, or nothing can vary")
    require_pattern("--pattern", request.probing.get("pattern"))
    rule, rows = RULES[request.rule], read_rows(request.pool, "POOL")
    texts, system = _questions(rows, request)
    answer_field = request.answer_field or ("answer" if rule.needs_labels else None)
    if answer_field and not rule.needs_model:
        raise SpecError(f"--answer-field {answer_field}: {request.rule} reads no answers; leave it out")
    labels = _labels(rows, answer_field, request.pool) if answer_field else None
    scores, statistics = _scores(request, texts, labels, system)
    chosen = top(scores, request.num, lowest=request.lowest)
    label = label_of(request.rule, supervised=labels is not None)
    return Picks(
        label=label,
        supervised=labels is not None,
        num_problems=len(rows),
        rows=[
            {
                **rows[i],
                "selection": {
                    "rule": label,
                    "rank": rank,
                    "row": i,
                    "score": float(scores[i]),
                    "statistics": {name: _plain(values[i]) for name, values in statistics.items()},
                },
            }
            for rank, i in enumerate(chosen, 1)
        ],
    )


def _scores(
    request: SelectionRequest, texts: Sequence[str], labels: Sequence[str] | None, system: str | None
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Score of each problem, and the statistics it came from."""
    characters = np.array([len(t) for t in texts], dtype=np.float64)
    if request.rule == "length":
        return characters, {"characters": characters}
    if request.rule == "random":
        return random_scores(texts, request.seed), {"characters": characters}
    from trainers.selection.pool_scorer import Prober, Probing

    prober = Prober(Probing(seed=request.seed, system=system, **request.probing))
    try:
        if request.rule == "accuracy_std":
            assert labels is not None
            accuracy = prober.history(texts, labels, request.passes)
            return accuracy_std(accuracy), {"first_accuracy": accuracy[0], "last_accuracy": accuracy[-1]}
        if request.rule == "boosting":
            boosted = prober.boost(texts, labels, request.curation)
            return boosted.scores_P, {"failures": boosted.failures_P, "rounds": boosted.rounds_P}
        probed = prober.probe(texts, labels)
    finally:
        prober.close()
    statistics = {"entropy_nats": probed.entropy_P, "majority": probed.majority_P}
    if labels is not None:
        statistics["right"] = probed.correct_P
    if request.rule == "entropy":
        return probed.entropy_P, statistics
    if request.rule == "majority_p1p":
        return majority_p1p(probed.majority_P), statistics
    return pass_variance(probed.correct_P, prober.samples, request.k), statistics


def _questions(rows: Sequence[Mapping[str, Any]], request: SelectionRequest) -> tuple[list[str], str | None]:
    """What the pool asks, and the system message that all its rows have."""
    questions = [
        question_of(row, Source(path=request.pool, number=i, key="--text-field", field=request.text_field))
        for i, row in enumerate(rows)
    ]
    systems = list(dict.fromkeys(question.system for question in questions))
    if len(systems) > 1:
        raise SpecError(f"{request.pool}: its rows differ in their system message; rank them apart")
    return [question.text for question in questions], systems[0]


def _labels(rows: Sequence[Mapping[str, Any]], field: str, path: str) -> list[str]:
    return [
        str(answer_of(row, Source(path=path, number=i, key="--answer-field", field=field)))
        for i, row in enumerate(rows)
    ]


def _plain(value: Any) -> int | float:
    return value.item() if isinstance(value, np.generic) else value
