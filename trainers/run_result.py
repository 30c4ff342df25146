"""What a run found: the form in which a trainer hands it over and the worker's spool stores it.

Plain values only: :meth:`RunResult.to_json` is one record of a spool.
"""

from __future__ import annotations

import base64
import dataclasses
import zlib
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

RESULT_VERSION = 1
"""Version of the JSON form of a result, stored with it."""

TIMING_SUFFIX = "_s"
"""Names of measured seconds end so; they are the only numbers that two identical runs may disagree on."""


NUMERICS = 5
"""Version of the numbers that the shipped trainers compute, stored with each result's layout. It rises with
every fix that changes a number: runs of two versions are told apart in every table, and ``replay`` names the
cause.

1. until emsweep 0.1.0, where a layout holds no version
2. answers are read by the rules of :mod:`trainers.evaluation.answer_text`
3. a run of ZeRO-3 leaves later runs of its worker alone; ``objective.compat`` is the published update; groups
   are drawn again by accuracy, without the length penalty; powers and fractions that are one character,
   scales in words and the rows of matrices are read as such
4. numbers side by side, variables behind numbers, capitals, derivatives, units that differ, words and the
   parts of lists are read by the rules of :mod:`trainers.evaluation.answer_latex` and its neighbours
5. runs trained together share a first step only where the tokens of its rows, and the earlier runs that its
   weights come from, agree
"""


def numerics_of(layout: Mapping[str, Any]) -> int | None:
    """Version of the numbers of a result with this layout; ``None`` for a trainer that states none."""
    return layout.get("numerics", 1 if "zero_stage" in layout else None)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Verdicts of one benchmark at one step under one decoding setting, a column of integers per item
    field.
    """

    benchmark: str
    step: int
    """Optimizer steps taken before the evaluation."""
    mode: str
    temperature: float
    """Sampling temperature; 0 for greedy."""
    num_samples: int
    """Completions per item."""
    correct: Sequence[int]
    """Completions per item that math-verify accepts, shape (items,)."""
    strict: Sequence[int]
    """Completions per item whose answer equals the gold text exactly, shape (items,)."""
    boxed: Sequence[int]
    """Completions per item in which an answer was found at all, shape (items,)."""
    truncated: Sequence[int]
    """Completions per item cut off by the token limit, shape (items,)."""
    tokens: Sequence[int]
    """Completion tokens per item, summed over its completions, shape (items,)."""

    @property
    def accuracy(self) -> float:
        """Mean correctness over items and samples."""
        return sum(self.correct) / max(1, len(self.correct) * self.num_samples)


def accuracy_name(evaluation: Evaluation, among: Sequence[Evaluation]) -> str:
    """Name of the metric that an evaluation gives: ``accuracy_greedy``, ``accuracy_sampled``, or
    ``accuracy_sampled_t0.6`` for every sampling temperature but the first.

    Args:
        among: the evaluations of the same step, in their order.
    """
    sampled = [e.temperature for e in among if e.mode == "sampled"]
    if evaluation.mode == "greedy" or evaluation.temperature == sampled[0]:
        return f"accuracy_{evaluation.mode}"
    return f"accuracy_{evaluation.mode}_t{evaluation.temperature:g}"


@dataclass(frozen=True, kw_only=True)
class RolloutText:
    """One distinct rollout and how often it was drawn."""

    step: int
    """Optimizer steps taken before it was drawn."""
    prompt: int
    """Number of its prompt in the example, or of its row in the training set, from 0."""
    text: str
    """The completion, special tokens included."""
    count: int
    """Multiplicity among the step's rollouts."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What one attempt found."""

    outcome: str
    """``done``, or ``diverged`` when the loss or a gradient stopped being finite (a result, not a failure).
    """
    metrics: Mapping[str, float | int | str | None] = field(default_factory=dict)
    """Named scalars of the run, one column each in ``runs()``."""
    steps: Sequence[Mapping[str, float | int | None]] = ()
    """One mapping per recorded step, ``step`` first; columns of ``steps()``."""
    evaluations: Sequence[Evaluation] = ()
    rollouts: Sequence[RolloutText] = ()
    """Distinct rollouts of the first and last step."""
    logit_stats: Sequence[Mapping[str, Any]] = ()
    """Statistics of raw logits, one mapping per (model, text); see :mod:`trainers.step.logit_stats`."""
    layout: Mapping[str, Any] = field(default_factory=dict)
    """How it was computed: world size, ZeRO stage, micro batch, threads, versions, host."""

    def require_outcome(self) -> None:
        """Refuse a word that is no outcome of a finished run.

        Raises:
            ValueError: for anything but ``done`` and ``diverged``.
        """
        if self.outcome not in ("done", "diverged"):
            raise ValueError(
                f"outcome {self.outcome!r}: must be 'done' or 'diverged'; raise an exception for a failed run"
            )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON form; floats survive a round trip bit for bit, NaN and infinities become text."""
        return {
            "version": RESULT_VERSION,
            "outcome": self.outcome,
            "metrics": {k: number_to_json(v) for k, v in self.metrics.items()},
            "steps": [{k: number_to_json(v) for k, v in row.items()} for row in self.steps],
            "evaluations": [_evaluation_to_json(e) for e in self.evaluations],
            "rollouts": [dataclasses.asdict(r) for r in self.rollouts],
            "logit_stats": [dict(s) for s in self.logit_stats],
            "layout": dict(self.layout),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RunResult:
        """Inverse of :meth:`to_json`.

        Raises:
            ValueError: for a form written by a newer version.
        """
        metrics, steps = scalars_from_json(data)
        return cls(
            outcome=data["outcome"],
            metrics=metrics,
            steps=steps,
            evaluations=[_evaluation_from_json(e) for e in data["evaluations"]],
            rollouts=[RolloutText(**r) for r in data["rollouts"]],
            logit_stats=data["logit_stats"],
            layout=data["layout"],
        )


def scalars_from_json(data: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Metrics and steps of a stored result, without unpacking the rest.

    Raises:
        ValueError: for a form written by a newer version.
    """
    if data["version"] > RESULT_VERSION:
        raise ValueError(f"result version {data['version']}: newer than {RESULT_VERSION}; upgrade emsweep")
    metrics = {k: number_from_json(v) for k, v in data["metrics"].items()}
    return metrics, [{k: number_from_json(v) for k, v in row.items()} for row in data["steps"]]


_ITEM_FIELDS = ("correct", "strict", "boxed", "truncated", "tokens")
_NON_FINITE = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}


def number_to_json(value: Any) -> Any:
    """A scalar as JSON holds it: NaN and infinities as text."""
    return str(value) if isinstance(value, float) and value - value != 0.0 else value


def number_from_json(value: Any) -> Any:
    """Inverse of :func:`number_to_json`."""
    return _NON_FINITE.get(value, value) if isinstance(value, str) else value


def _evaluation_to_json(evaluation: Evaluation) -> dict[str, Any]:
    row = {f.name: getattr(evaluation, f.name) for f in dataclasses.fields(evaluation)}
    return row | {"items": len(evaluation.correct)} | {k: pack_ints(row[k]) for k in _ITEM_FIELDS}


def _evaluation_from_json(data: Mapping[str, Any]) -> Evaluation:
    row = {k: v for k, v in data.items() if k != "items"}
    return Evaluation(**row | {k: unpack_ints(row[k]) for k in _ITEM_FIELDS})


def pack_ints(values: Sequence[int]) -> str:
    """Pack non-negative 32-bit integers as base64 of deflated little-endian words: 500 verdicts take about
    100 bytes.
    """
    packed = array("I", values)
    return base64.b64encode(zlib.compress(packed.tobytes(), 6)).decode()


def unpack_ints(text: str) -> list[int]:
    unpacked = array("I")
    unpacked.frombytes(zlib.decompress(base64.b64decode(text)))
    return unpacked.tolist()
