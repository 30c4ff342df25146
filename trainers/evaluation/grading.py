"""Is an answer right? Cut out of the completion, put into one form, compared, remembered.

:mod:`.answer_text` says how an answer is cut out and spelt, :mod:`.answer_equality` when two are equal.
Numbers are compared in process. Everything else goes through math-verify, which bounds its time with SIGALRM,
which only a main thread may use, and which a hostile answer can hang: so it runs in one helper process that
is killed when it overruns, and answers that overrun are bounded in sum as well (:meth:`Grader.begin`).
"""

from __future__ import annotations

import json
import re
import select
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from trainers.evaluation.answer_equality import (
    close_numbers,
    equal_by_reading,
    equal_in_prose,
    equal_numbers,
)
from trainers.evaluation.answer_numbers import based_number, exact_number
from trainers.evaluation.answer_spelling import prose_spelling, spelling
from trainers.evaluation.answer_text import last_box, normalise, stated_answer
from trainers.evaluation.answer_units import contradict, moment_of

PATIENCE = 4
"""Answers of one step or evaluation that may use up their time; what would have to be read after them counts
as wrong and is not remembered. 64 that each used up theirs took minutes a step.
"""

PAIRS_REMEMBERED = 100_000
"""(gold, answer) pairs kept: 10⁵ short ones take about 25 MB."""

PLAIN_DIGITS = 9
"""Longest number that is compared without being read as mathematics; some rules call longer ones hostile."""

START_S = 60.0
"""Seconds the helper may take to start: importing sympy on a busy machine took up to 8 s, measured."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Judgement of one completion."""

    correct: bool
    """math-verify finds the answer equal to the gold one."""
    strict: bool
    """The answer's text equals the gold text."""
    found: bool
    """An answer was found at all: the pattern matched or, without a pattern, a ``\\boxed{}`` stands in the
    text.
    """


class Grader:
    """Judges completions of one benchmark, remembering every (gold, answer) pair it has seen."""

    def __init__(self, *, pattern: str | None, timeout_s: float, rule: str = "math_verify") -> None:
        self._pattern = re.compile(pattern) if pattern else None
        self._timeout_s, self._rule = timeout_s, rule
        self._num_overrun = 0
        self._helper = _Helper()
        self._equal = lru_cache(maxsize=PAIRS_REMEMBERED)(self._compare)
        self._canonical = lru_cache(maxsize=PAIRS_REMEMBERED)(self._spell)

    def begin(self) -> None:
        """Begin a step or an evaluation: :data:`PATIENCE` is counted anew."""
        self._num_overrun = 0

    @property
    def is_patient(self) -> bool:
        """Whether every answer of this step or evaluation was read so far."""
        return self._num_overrun < PATIENCE

    def judge(self, gold: str, completion: str) -> Verdict:
        answer = self._extract(completion)
        found = answer is not None
        if answer is None:
            if self._pattern is not None:
                return Verdict(correct=False, strict=False, found=False)
            answer = stated_answer(completion)
        try:
            correct = self._equal(gold, answer, completion if answer is None else None)
        except _OutOfPatience:
            correct = False
        strict = found and answer is not None and answer.strip() == cut_out(gold).strip()
        return Verdict(correct=correct, strict=strict, found=found)

    def reads(self, gold: str) -> bool:
        """Whether a gold answer can be read and equals itself, so that it can be answered at all."""
        gold = normalise(cut_out(gold))
        if gold.count("$") % 2:  # one that opens mathematics and does not close it
            return False
        known = exact_number(gold) is not None or based_number(gold) is not None
        return known or self._ask("equal_by_reading", gold, gold) is True

    def has_answer(self, completion: str) -> bool:
        return self._extract(completion) is not None

    def answer(self, completion: str) -> str | None:
        """The completion's answer, spelt so that equal answers are equal texts; ``None`` without one."""
        answer = self._extract(completion)
        if answer is None and self._pattern is None:
            answer = stated_answer(completion)
        try:
            if answer is None:
                return None if self._pattern else self._canonical(completion, True)
            return self._canonical(answer, False)
        except _OutOfPatience:
            return answer

    def close(self) -> None:
        self._helper.stop()

    def _extract(self, completion: str) -> str | None:
        """The answer: what the pattern matched last or, without a pattern, the last closed box."""
        if self._pattern is None:
            return last_box(completion)
        matches = self._pattern.findall(completion)
        last = matches[-1] if matches else ""
        answer = last if isinstance(last, str) else last[0]
        return answer if answer.strip() else None

    def _compare(self, gold: str, answer: str | None, prose: str | None) -> bool:
        if answer is not None and self._rule != "relative" and _is_plain(answer) and _is_plain(gold):
            return int(gold) == int(answer)
        as_written, gold = cut_out(gold), normalise(cut_out(gold))
        if answer is None:
            return self._ask("equal_in_prose", gold, prose) is True
        is_checked = self._rule != "relative" or moment_of(as_written)  # the benchmarks' own drops units
        if is_checked and contradict(as_written, answer):
            return False
        answer = normalise(answer)
        if (equal := equal_numbers(gold, answer)) is not None and (equal or self._rule != "relative"):
            return equal
        if self._rule == "relative" and self._ask("close_numbers", gold, answer) is True:
            return True
        return equal is None and self._ask("equal_by_reading", gold, answer) is True

    def _spell(self, answer: str, is_prose: bool) -> str | None:
        if is_prose:
            return self._ask("prose_spelling", answer)
        moment, answer = moment_of(answer), normalise(answer)
        number = exact_number(answer)
        spelt = self._ask("spelling", answer) if number is None else str(number)
        # What a pattern or a box cut out is an answer even where it is no mathematics.
        return f"{spelt or answer} {moment or ''}".rstrip()

    def _ask(self, *question: str | None) -> Any:
        if self._num_overrun >= PATIENCE:
            raise _OutOfPatience
        reply, overran = self._helper.ask(question, self._timeout_s)
        self._num_overrun += overran
        return reply


def _is_plain(text: str) -> bool:
    """Whether an answer is a whole number in digits alone: two such are equal as numbers, which reading them
    as mathematics finds out too, 0.1 ms later.
    """
    return text.isascii() and text.isdigit() and len(text) <= PLAIN_DIGITS


class _OutOfPatience(Exception):
    """Too many answers of this step used up their time."""


def cut_out(gold: str) -> str:
    r"""The gold answer of a benchmark's field: the last box of a worked solution, or the field as it is."""
    box = last_box(gold)
    return gold if box is None else box


class _Helper:
    """One process that judges; killed and replaced when an answer takes too long."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def ask(self, question: Sequence[str | None], timeout_s: float) -> tuple[Any, bool]:
        """Ask the helper.

        Args:
            question: A function of :mod:`.answer_equality` and its arguments.

        Returns:
            The answer, ``None`` for a question that overruns or kills the helper; and whether it did.
        """
        process = self._running()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(question) + "\n")
            process.stdin.flush()
            reply = _read_line(process, timeout_s)
        except BrokenPipeError:
            reply = None
        if reply is None:
            self.stop()
            return None, True
        return json.loads(reply), False

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        self._process = None

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self.stop()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "trainers.evaluation.grading"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            if _read_line(self._process, START_S) is None:
                self.stop()
                raise RuntimeError(f"the grading process did not answer within {START_S:.0f} s of its start")
        return self._process


def _read_line(process: subprocess.Popen[str], timeout_s: float) -> str | None:
    """The helper's next line; ``None`` when it died or took too long."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], timeout_s)
    return (process.stdout.readline() or None) if ready else None


def _serve() -> None:
    """Answer the questions of :meth:`_Helper.ask` from standard input, one a line, until it closes."""
    import math_verify  # noqa: F401 - imported before the first answer, outside its time limit

    answers = {
        f.__name__: f for f in (close_numbers, equal_by_reading, equal_in_prose, prose_spelling, spelling)
    }
    print("ready", flush=True)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            reply = answers[name](*arguments)
        except Exception:  # whatever sympy raises on a hostile answer, the answer is not right
            reply = None
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    _serve()
