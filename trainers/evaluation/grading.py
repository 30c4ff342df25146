"""Is an answer right? Cut out of the completion, judged by math-verify, remembered.

math-verify bounds its time with SIGALRM, which only a main thread may use, and a hostile answer can hang
it. So plain numbers are judged in process without a timer, and everything else in one helper process that
is killed when it overruns.
"""

from __future__ import annotations

import json
import logging
import re
import select
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

_PLAIN_NUMBER = re.compile(r"-?\d{1,15}(\.\d{1,15})?")
"""Answers that math-verify parses in constant time: 0.2 ms, measured on three-digit numbers."""

_BOXED = re.compile(r"\\boxed\s*\{")
PAIRS_REMEMBERED = 100_000
"""(gold, answer) pairs kept: 10⁵ short ones take about 25 MB."""

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

    def __init__(self, *, pattern: str | None, timeout_s: float) -> None:
        self._pattern = re.compile(pattern) if pattern else None
        self._timeout_s = timeout_s
        self._helper = _Helper()
        self._equal = lru_cache(maxsize=PAIRS_REMEMBERED)(self._verify)
        self._canonical = lru_cache(maxsize=PAIRS_REMEMBERED)(self._spell)

    def judge(self, gold: str, completion: str) -> Verdict:
        """Judge a completion's text against the gold answer."""
        answer, found = self._extract(completion)
        if answer is None:
            return Verdict(correct=False, strict=False, found=False)
        return Verdict(correct=self._equal(gold, answer), strict=answer.strip() == gold.strip(), found=found)

    def has_answer(self, completion: str) -> bool:
        """Whether an answer is found at all: :attr:`Verdict.found`."""
        return self._extract(completion)[1]

    def answer(self, completion: str) -> str | None:
        """The completion's answer, spelt so that equal answers are equal texts; ``None`` without one."""
        answer, _ = self._extract(completion)
        return None if answer is None else self._canonical(answer)

    def close(self) -> None:
        """End the helper process."""
        self._helper.stop()

    def _extract(self, completion: str) -> tuple[str | None, bool]:
        if self._pattern is None:
            return completion, bool(_BOXED.search(completion))
        matches = self._pattern.findall(completion)
        last = matches[-1] if matches else ""
        answer = last if isinstance(last, str) else last[0]
        return (answer, True) if answer.strip() else (None, False)

    def _verify(self, gold: str, answer: str) -> bool:
        if _PLAIN_NUMBER.fullmatch(gold) and _PLAIN_NUMBER.fullmatch(answer):
            return _verify_now(gold, answer)
        return self._helper.ask([gold, answer], self._timeout_s) is True

    def _spell(self, answer: str) -> str | None:
        if _PLAIN_NUMBER.fullmatch(answer):
            spelt = _spell_now(answer)
        else:
            spelt = self._helper.ask([answer], self._timeout_s)
        # What a pattern cut out is an answer even where it is no mathematics.
        return spelt or (answer.strip() if self._pattern else None)


def _verify_now(gold: str, answer: str) -> bool:
    from math_verify import verify

    return bool(verify(_parsed(_as_math(gold)), _parsed(answer), timeout_seconds=None))


def _spell_now(answer: str) -> str | None:
    from sympy import Float, Rational

    found = _parsed(answer)
    if not found:
        return None
    value = found[0]
    return str(Rational(str(value)) if isinstance(value, Float) else value)


@lru_cache(maxsize=100_000)
def _parsed(text: str) -> list:
    from math_verify import parse

    _quiet()
    return parse(text, parsing_timeout=None)


def _as_math(gold: str) -> str:
    r"""Gold answers come bare, such as ``\\frac{1}{2}``; math-verify reads LaTeX between dollar signs."""
    return gold if "$" in gold or "\\boxed" in gold else f"${gold}$"


@lru_cache(maxsize=1)
def _quiet() -> None:
    """math-verify warns on every call that its timer is off; the helper process is the timer."""
    logging.getLogger("math_verify").setLevel(logging.ERROR)


class _Helper:
    """One process that judges; killed and replaced when an answer takes too long."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def ask(self, question: Sequence[str], timeout_s: float) -> Any:
        """Ask the helper; ``None`` for a question that overruns ``timeout_s`` or kills it.

        Args:
            question: A gold answer and another, to learn whether they are equal; or one answer alone, to
                learn its spelling.
            timeout_s: Seconds it may take.
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
            return None
        return json.loads(reply)

    def stop(self) -> None:
        """Kill the helper, if there is one."""
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

    _quiet()
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            question = json.loads(line)
            found = _spell_now(*question) if len(question) == 1 else _verify_now(*question)
        except Exception:  # whatever sympy raises on a hostile answer, the answer is not right
            found = None
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    _serve()
