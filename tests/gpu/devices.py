"""Fresh processes on a chosen device: the same test bodies run on a GPU where there is one, and on the CPU.

A process decides for CUDA or not when it starts, by ``CUDA_VISIBLE_DEVICES``, so every body runs in spawned
processes and the parent never touches a device.
"""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

ANSWER_S = 280


def on_gpu(*values: Any) -> Any:
    """Values of a test that needs a GPU, ``cuda`` first."""
    missing = pytest.mark.skipif(
        not torch.cuda.is_available(), reason="no CUDA device: torch.cuda.is_available() is False"
    )
    return pytest.param("cuda", *values, marks=[pytest.mark.gpu, missing])


def also_on_cpu(*values: Any) -> Any:
    """Values of the half of such a test that runs anywhere, ``cpu`` first: it shows that the other would fail
    for the right reason, in minutes.
    """
    return pytest.param("cpu", *values, marks=pytest.mark.slow)


def call_on(device: str, calls: Sequence[tuple[Callable[..., Any], tuple]]) -> list[Any]:
    """Call importable functions, each in a fresh process on ``device``, all at once; return their results."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    processes = [
        context.Process(target=_answer, args=(number, device, work, args, answers))
        for number, (work, args) in enumerate(calls)
    ]
    for process in processes:
        process.start()
    try:
        answered = dict(answers.get(timeout=ANSWER_S) for _ in processes)
    finally:
        for process in processes:
            process.join(30)
            process.kill()
    failures = [value for value in answered.values() if isinstance(value, str) and "Traceback" in value]
    assert not failures, failures[0]
    return [answered[number] for number in range(len(processes))]


def _answer(number: int, device: str, work: Callable[..., Any], args: tuple, answers: Any) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    try:
        answers.put((number, work(*args)))
    except BaseException:
        answers.put((number, traceback.format_exc()))
