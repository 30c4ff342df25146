"""What foreign code gives back, kind by kind, and what must come of it.

:class:`Odd` is a trainer that returns or raises what ``trainer.params.kind`` names.
"""

from __future__ import annotations

import enum
import fractions
import math
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainers.protocol import RunResult


class Level(enum.IntEnum):
    LOW = 1


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


class NoException(BaseException):
    pass


class Explosive(dict[str, float]):
    def items(self) -> Any:
        raise OSError("not today")


def _raise(error: BaseException) -> Any:
    raise error


def _endless() -> dict[str, Any]:
    nested: dict[str, Any] = {}
    nested["again"] = nested
    return nested


def _done(**metrics: Any) -> RunResult:
    return RunResult(outcome="done", metrics=metrics)


FAILS = object()
"""Stands for: the run fails, and says why."""

KINDS: dict[str, tuple[Callable[[], Any], Any]] = {
    # what is a result, with what the table must hold of it
    "number": (lambda: 0.5, {"returned": 0.5}),
    "whole number": (lambda: 3, {"returned": 3}),
    "numpy number": (lambda: np.float32(0.5), {"returned": 0.5}),
    "tensor": (lambda: torch.tensor(0.5), {"returned": 0.5}),
    "tensor with gradient": (lambda: torch.tensor([0.5], requires_grad=True), {"returned": 0.5}),
    "dict": (lambda: {"score": 0.5}, {"score": 0.5}),
    "empty dict": (dict, {}),
    "ordered dict": (lambda: OrderedDict(score=0.5), {"score": 0.5}),
    "nested dict": (lambda: {"eval": {"loss": 0.5, "top": {"k": 1}}}, {"eval.loss": 0.5, "eval.top.k": 1}),
    "numpy scalars": (
        lambda: {"a": np.int64(3), "b": np.bool_(True), "c": np.float64(0.5)},
        {"a": 3, "c": 0.5},
    ),
    "tensors": (lambda: {"score": torch.ones(1, 1)}, {"score": 1.0}),
    "half": (lambda: {"score": torch.tensor(0.5, dtype=torch.bfloat16)}, {"score": 0.5}),
    "member of an enum": (lambda: {"level": Level.LOW}, {"level": 1}),
    "fraction": (lambda: {"score": fractions.Fraction(1, 2)}, {"score": 0.5}),
    "text": (lambda: {"mixed": "many"}, {"mixed": "many"}),
    "number where others give text": (lambda: {"mixed": 7}, {"mixed": "7"}),
    "truth where others give numbers": (lambda: {"score": True}, {"score": 1.0}),
    "large": (lambda: {"huge": 2**70}, {"huge": 2.0**70}),
    "large where others give text": (lambda: {"mixed": 2**70}, {"mixed": str(2**70)}),
    "nan": (lambda: {"score": math.nan}, {}),
    "infinite": (lambda: {"score": -math.inf}, {"score": -math.inf}),
    "none": (lambda: {"score": None, "other": 1}, {"other": 1}),
    "called index": (lambda: {"index": 77, "score": 0.5}, {"metric.index": 77, "score": 0.5}),
    "called run_id": (lambda: {"run_id": 1.5}, {"metric.run_id": 1.5}),
    "called outcome": (lambda: {"outcome": 2.5}, {"metric.outcome": 2.5}),
    "called seed": (lambda: {"Seed": 9}, {"metric.Seed": 9}),
    "called as an axis": (lambda: {"trainer.params.kind": 4}, {"metric.trainer.params.kind": 4}),
    "of one name but for case": (lambda: {"score": 0.5, "Score": 0.25}, {"score": 0.5, "metric.Score": 0.25}),
    "quotes and dots": (lambda: {"a\"b.c'd; --": 0.5}, {"a\"b.c'd; --": 0.5}),
    "number as a name": (lambda: {5: 0.5}, {"5": 0.5}),
    "steps of numpy": (
        lambda: RunResult(
            outcome="done", metrics={"score": 0.5}, steps=[{"step": np.int64(1), "loss": np.float32(2)}]
        ),
        {"score": 0.5},
    ),
    "step called index": (
        lambda: RunResult(
            outcome="done", metrics={"score": 0.5}, steps=[{"step": 1, "index": 4, "run_id": "x"}]
        ),
        {"score": 0.5},
    ),
    "three hundred metrics": (lambda: {f"m{k}": k for k in range(300)}, {"m299": 299}),
    # what is none
    "nothing": (lambda: None, FAILS),
    "words": (lambda: "0.93", FAILS),
    "truth": (lambda: True, FAILS),
    "list": (lambda: [0.5], FAILS),
    "tuple": (lambda: (0.5, 0.25), FAILS),
    "tensor of many": (lambda: torch.ones(3), FAILS),
    "list as a metric": (lambda: {"score": [1, 2]}, FAILS),
    "set as a metric": (lambda: {"score": {1}}, FAILS),
    "complex": (lambda: {"score": 1j}, FAILS),
    "path": (lambda: {"model": Path("weights")}, FAILS),
    "bytes": (lambda: {"score": b"1"}, FAILS),
    "tuple as a name": (lambda: {("a", 1): 0.5}, FAILS),
    "twice after joining": (lambda: {"a.b": 1, "a": {"b": 2}}, FAILS),
    "holds itself": (_endless, FAILS),
    "unknown outcome": (lambda: RunResult(outcome="ok", metrics={"score": 1}), FAILS),
    "metrics as a list": (lambda: RunResult(outcome="done", metrics=[0.5]), FAILS),  # type: ignore[arg-type]
    "steps without numbers": (lambda: RunResult(outcome="done", steps=[{"loss": 1.0}]), FAILS),
    "layout that is no JSON": (lambda: RunResult(outcome="done", layout={"at": {1}}), FAILS),
    "mapping that raises": (lambda: Explosive(score=1.0), FAILS),
    "lone surrogate": (lambda: {"score": "\ud800"}, FAILS),
    "error without words": (lambda: _raise(Unspeakable()), FAILS),
    "no exception": (lambda: _raise(NoException("out")), FAILS),
    "exit": (lambda: _raise(SystemExit(3)), FAILS),
    "interrupt": (lambda: _raise(KeyboardInterrupt()), FAILS),
    "end of a generator": (lambda: _raise(GeneratorExit()), FAILS),
    "endless recursion": (lambda: (lambda f: f(f))(lambda f: f(f)), FAILS),
}
"""What is returned or raised, and what the table of runs must hold of it."""


class Odd:
    """Returns what its kind says."""

    def __init__(self, context: object) -> None: ...

    def run(self, spec: Any, context: object) -> Any:
        return KINDS[spec.trainer.params["kind"]][0]()
