r"""Gold answers in other spellings that mean the same, and in ones that do not: what a grader must tell
apart.

    python -m tests.benchmarks.respellings FOLDER --json

FOLDER holds the benchmarks' files. Each kind of respelling is a function from a gold answer to another
spelling, or ``None`` where it does not apply; :data:`KINDS` lists them.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from tests.benchmarks.figures import print_figures
from trainers.evaluation.answer_numbers import exact_number
from trainers.evaluation.answer_text import last_box, normalise
from trainers.evaluation.grading import Grader, cut_out

FIELDS = {
    "math500": "answer",
    "minerva_math": "solution",
    "olympiadbench": "final_answer",
    "amc23": "answer",
    "aime24": "answer",
    "aime25": "answer",
}
"""Benchmarks and the field that holds their gold."""

FULL_WIDTH = str.maketrans("0123456789", "０１２３４５６７８９")
SIMPLE = re.compile(r"[-+]?\d+(\.\d+)?")
INTEGER = re.compile(r"\d+")


def golds(folder: Path) -> Iterator[tuple[str, int, str]]:
    """Benchmark, item number and gold answer, boxes of worked solutions cut out."""
    for name, field in FIELDS.items():
        for number, line in enumerate((folder / f"{name}.jsonl").read_text().splitlines(), start=1):
            value = json.loads(line)[field]
            value = value[0] if isinstance(value, list) else value
            value = int(value) if isinstance(value, float) and value.is_integer() else value
            yield name, number, cut_out(str(value))


def _decimal(gold: str) -> Decimal | None:
    return Decimal(gold) if SIMPLE.fullmatch(gold) else None


def _grouped(separator: str) -> Callable[[str], str | None]:
    def spell(gold: str) -> str | None:
        if not INTEGER.fullmatch(gold) or len(gold) < 4:
            return None
        return f"{int(gold):,}".replace(",", separator)

    return spell


def _on_number(change: Callable[[str], str]) -> Callable[[str], str | None]:
    return lambda gold: change(gold) if SIMPLE.fullmatch(gold) else None


def _on_nonzero(change: Callable[[Fraction], str | None]) -> Callable[[str], str | None]:
    def spell(gold: str) -> str | None:
        value = exact_number(gold)
        return change(value) if value else None

    return spell


def _scientific(times: str) -> Callable[[str], str | None]:
    def spell(gold: str) -> str | None:
        value = exact_number(normalise(gold))
        if not value or not (abs(value) >= 1000 or abs(value) < Fraction(1, 100)):
            return None
        if value.denominator not in (10**k for k in range(40)) and value.denominator != 1:
            return None
        digits = f"{Decimal(value.numerator) / Decimal(value.denominator):e}".lower()
        mantissa, _, exponent = digits.partition("e")
        return times.format(mantissa, int(exponent))

    return spell


def _terminating(value: Fraction) -> str | None:
    if value.denominator == 1:
        return None
    text = str(Decimal(value.numerator) / Decimal(value.denominator))
    return text if Fraction(text) == value and len(text) < 12 else None


def _as_fraction(value: Fraction) -> str | None:
    if value.denominator == 1 or value.denominator > 10**6:
        return None
    sign = "-" if value < 0 else ""
    return rf"{sign}\dfrac{{{abs(value.numerator)}}}{{{value.denominator}}}"


def _swapped(pattern: str, replacement: str) -> Callable[[str], str | None]:
    def spell(gold: str) -> str | None:
        changed = re.sub(pattern, replacement, gold)
        return changed if changed != gold else None

    return spell


KINDS: dict[str, Callable[[str], str | None]] = {
    "as it is": lambda gold: gold,
    "full stop": lambda gold: f"{gold}." if "$" not in gold else None,
    "dollar signs": lambda gold: f"${gold}$" if "$" not in gold else None,
    "spaces around": lambda gold: f"  {gold} ",
    "parentheses of inline mathematics": lambda gold: rf"\({gold}\)" if "$" not in gold else None,
    "full-width digits": _on_number(lambda gold: gold.translate(FULL_WIDTH)),
    "degree sign": _on_number(lambda gold: rf"{gold}^\circ"),
    "degree character": _on_number(lambda gold: f"{gold}°"),
    "percent": _on_number(lambda gold: rf"{gold}\%"),
    "currency": _on_number(lambda gold: rf"\${gold}"),
    "unit in text": _on_number(lambda gold: rf"{gold}\text{{ cm}}"),
    "unit with a power": _on_number(lambda gold: rf"{gold} \mathrm{{~m}}^{{2}}"),
    "unit in words": _on_number(lambda gold: f"{gold} units"),
    "assignment": _on_number(lambda gold: f"x = {gold}"),
    "equals sign": _on_number(lambda gold: f"= {gold}"),
    "colour": _on_number(lambda gold: rf"\textcolor{{blue}}{{{gold}}}"),
    "underline": _on_number(lambda gold: rf"\underline{{{gold}}}"),
    "powers in one character": _swapped(r"(?<=[\da-z)])\^(?:2(?!\d)|\{2\})", "²"),
    "roots in one character": _swapped(r"\\sqrt\{(\d+)\}", r"√\1"),
    "pi in one character": _swapped(r"\\pi(?![a-z])", "π"),
    "square brackets of a matrix": _swapped("pmatrix", "bmatrix"),
    "trailing zeros": _on_number(lambda gold: f"{gold}0" if "." in gold else f"{gold}.0"),
    "plus sign": _on_number(lambda gold: f"+{gold}" if gold[0] not in "+-" else gold),
    "typographic minus": _swapped("-", "−"),
    "thousands by thin spaces": _grouped(r"\,"),
    "thousands by commas": _grouped(","),
    "thousands by braced commas": _grouped("{,}"),
    "powers of ten": _scientific(r"{} \times 10^{{{}}}"),
    "powers of ten with a dot": _scientific(r"{} \cdot 10^{{{}}}"),
    "e-notation": _scientific("{}e{}"),
    "decimal of a fraction": _on_nonzero(_terminating),
    "fraction of a decimal": _on_nonzero(_as_fraction),
    "display fractions": _swapped(r"\\frac", r"\\dfrac"),
    "text fractions": _swapped(r"\\dfrac|\\frac", r"\\tfrac"),
    "no left and right": _swapped(r"\\left|\\right", ""),
    "thin spaces": _swapped(", ", r",\\, "),
}
"""Spellings that mean the same, by name."""


def _other_digit(gold: str) -> str | None:
    """The number with its last digit changed."""
    return gold[:-1] + str((int(gold[-1]) + 1) % 10) if SIMPLE.fullmatch(gold) else None


WRONG_KINDS: dict[str, Callable[[str], str | None]] = {
    "another last digit": _other_digit,
    "tenfold": _on_nonzero(lambda value: str(value * 10) if value.denominator == 1 else None),
    "half": _on_nonzero(lambda value: rf"\frac{{{value.numerator}}}{{{value.denominator * 2}}}"),
    "negative": _on_nonzero(lambda value: f"{-value}"),
    "an improper mixed number": lambda gold: f"{int(gold) - 6} 12/2" if INTEGER.fullmatch(gold) else None,
    "in millions": _on_nonzero(lambda value: f"{value} million" if value.denominator == 1 else None),
    "a bound": _on_number(lambda gold: rf"{gold} \text{{ or more}}"),
    "rows of a matrix turned": _swapped(
        r"\{pmatrix\}\s*([^&\\]+?)\s*\\\\\s*([^&\\]+?)\s*\\", r"{pmatrix} \2 \\\\ \1 \\"
    ),
    "another base": _swapped(r"_\{?8\}?$", "_7"),
    "half a power of two": _swapped(r"2\^\{(\d+)\}", r"2^{1\1}"),
}
"""Spellings that mean something else, by name."""


def measure(folder: Path) -> dict[str, object]:
    """Grade every respelling of every gold."""
    grader = Grader(pattern=None, timeout_s=5)
    asked, failures = Counter[str](), list[tuple[str, str, int, str, str]]()
    started = time.process_time()
    unequal = []
    for benchmark, item, gold in golds(folder):
        if not grader.reads(gold):
            unequal.append(f"{benchmark} {item}")
            continue
        for right, kinds in ((True, KINDS), (False, WRONG_KINDS)):
            for kind, spell in kinds.items():
                answer = spell(gold)
                if answer is None:
                    continue
                asked[f"{right}"] += 1
                text = f"First $\\boxed{{0.123}}$, but then: the answer is $\\boxed {{{answer}}}$."
                if last_box(text) != answer or grader.judge(gold, text).correct is not right:
                    failures.append((kind, benchmark, item, gold, answer))
    grader.close()
    missed = Counter("right" if kind in KINDS else "wrong" for kind, *_ in failures)
    return {
        "golds": sum(1 for _ in golds(folder)),
        "golds_not_equal_to_themselves": unequal,
        "respellings": asked["True"],
        "respellings_right": 1 - missed["right"] / asked["True"],
        "other_values": asked["False"],
        "other_values_refused": 1 - missed["wrong"] / asked["False"],
        "kinds": [*KINDS],
        "processor_s": round(time.process_time() - started, 1),
        "failures": failures[:40],
    }


def main() -> None:
    """Print the measurement."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.respellings")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measure(options.folder)
    print_figures(figures, as_json=options.json)


if __name__ == "__main__":
    main()
