"""Chooses and writes the shipped training examples, by what a base model does on them before any training.

    python -m trainers.tiny.examples --model trainers/tiny/models/tiny-64 --out trainers/tiny/data

Owns `examples.jsonl`: one JSON object a line with `id`, `problem` (the prompt), `answer`, `kind` and `note`.
The choice looks at the pool's prompts and their entropy only, never at what training on them does.
"""

import argparse
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from trainers.tiny.items import EXAMPLES_FILE, to_json_lines
from trainers.tiny.world import (
    SEPARATOR,
    Problem,
    extract_answer,
    parse,
    solve_carefully,
    solve_hastily,
    split,
)

NUM_ROLLOUTS = 64
"""Rollouts behind an entropy, as many as a training step draws."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A prompt and what the base model does on it."""

    prompt: str
    problem: Problem
    entropy_nats: float
    """Mean token entropy of its own rollouts at temperature 1."""
    accuracy: float
    """Share of those rollouts that end in the right answer."""


def typical(candidates: Iterable[Measured], num: int) -> list[Measured]:
    """The `num` candidates whose entropy is nearest the candidates' median, nearest first."""
    candidates = list(candidates)
    middle = median(c.entropy_nats for c in candidates)
    return sorted(candidates, key=lambda c: (abs(c.entropy_nats - middle), c.prompt))[:num]


def choose(pool: list[Measured], long: dict[str, Measured]) -> list[dict[str, str]]:
    """The examples: typical ones with and without a carry, long ones, and the pool's extremes of entropy.

    Args:
        pool: every prompt of the pool, measured.
        long: prompts that hold solved problems, measured, by the note that says how they were solved.
    """
    ordinary = [m for m in pool if not m.problem.is_sure and not m.problem.is_guessed]
    by_entropy = sorted(pool, key=lambda m: (m.entropy_nats, m.prompt))
    groups = [
        ("carry", "the hasty mode is wrong here", typical((m for m in ordinary if m.problem.carries), 3)),
        ("nocarry", "both modes are right here", typical((m for m in ordinary if not m.problem.carries), 2)),
        *(("long", note, [measured]) for note, measured in long.items()),
        ("lowent", "among the lowest entropy of the pool", by_entropy[:2]),
        ("highent", "among the highest entropy of the pool", by_entropy[:-3:-1]),
    ]
    examples: list[dict[str, str]] = []
    for kind, note, chosen in groups:
        for measured in chosen:
            number = sum(example["kind"] == kind for example in examples) + 1
            figures = f"entropy {measured.entropy_nats:.3f} nats a token, right {measured.accuracy:.2f}"
            examples.append(
                {
                    "id": f"{kind}-{number}",
                    "problem": measured.prompt,
                    "answer": measured.problem.answer,
                    "kind": kind,
                    "note": f"{note}; base rollouts: {figures}",
                }
            )
    return examples


def measure_prompts(folder: Path, prompts: dict[str, Problem]) -> list[Measured]:
    """Roll each prompt out on the model in a folder; the rollouts' noise is the same for every prompt."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from trainers.tiny.measure import roll_out

    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    measured = []
    for prompt, problem in prompts.items():
        rollouts = roll_out(model, tokenizer, [prompt] * NUM_ROLLOUTS, temperature=1.0)
        num_right = sum(extract_answer(text) == problem.answer for text in rollouts.texts)
        measured.append(
            Measured(
                prompt=prompt,
                problem=problem,
                entropy_nats=rollouts.mean_entropy_nats,
                accuracy=num_right / NUM_ROLLOUTS,
            )
        )
    return measured


def long_prompts(pool: tuple[Problem, ...]) -> dict[str, str]:
    """One carrying problem after two solved ones, three times; by a note on how those were solved.

    Problems that start with 0 are careful by nearly every writer, so they tell nothing of the mode: there the
    prompt is longer and the entropy is not lower. Elsewhere the mode they are solved in decides it.
    """
    ordinary = [p for p in pool if p.carries and not p.is_sure and not p.is_guessed]
    first, second, asked = ordinary[:3]
    sure = [p for p in pool if p.is_sure][:2]

    def prompt(solved: list[str]) -> str:
        return SEPARATOR.join([*solved, asked.prompt])

    return {
        "two solved problems come first that tell nothing of the mode": prompt(
            [p.prompt + solve_carefully(p) for p in sure]
        ),
        "two problems solved carefully come first": prompt(
            [p.prompt + solve_carefully(p) for p in (first, second)]
        ),
        "two problems solved hastily come first": prompt(
            [p.prompt + solve_hastily(p) for p in (first, second)]
        ),
    }


def main(argv: list[str] | None = None) -> int:
    """Entry point: measure, choose, write. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m trainers.tiny.examples",
        description="Choose the training examples by a model's entropy.",
    )
    parser.add_argument("--model", type=Path, required=True, help="folder of the base model that is measured")
    parser.add_argument("--out", type=Path, required=True, help="an existing folder")
    args = parser.parse_args(argv)
    for name, folder in (("--model", args.model), ("--out", args.out)):
        if not folder.is_dir():
            print(f"examples: {name} {folder} is not a folder: check the path", file=sys.stderr)
            return 2
    pool = split().pool
    long = long_prompts(pool)
    prompts = {p.prompt: p for p in pool} | {text: parse(text) for text in long.values()}
    measured = {m.prompt: m for m in measure_prompts(args.model, prompts)}
    examples = choose(
        [measured[p.prompt] for p in pool], {note: measured[text] for note, text in long.items()}
    )
    (args.out / EXAMPLES_FILE).write_text(to_json_lines(examples), encoding="utf-8")
    for example in examples:
        print(f"{example['id']:<10} {example['problem']:<36} {example['note']}")
    print(f"written: {args.out / EXAMPLES_FILE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
