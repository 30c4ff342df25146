"""Writes the shipped items: what models are evaluated on, and what they may be trained on.

    python -m trainers.tiny.items --out trainers/tiny/data

Owns `addition_eval.jsonl` (held-out problems), `addition_pool.jsonl` (candidate training prompts),
`addition_train.jsonl` (a training set, which begins with the pool) and `addition_solved.jsonl` (the same,
solved).
One JSON object a line: `id`, `problem` (the prompt), `answer` (three digits); of the training sets also
`difficulty` (1 + the sum of the last digits, up to 19: from 11 on there is a carry, which the hasty mode
drops); of solved problems also `completion` and `chosen` (the careful solution) and `rejected` (the hasty
one, right where there is no carry).
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainers.tiny.world import Problem, solve_carefully, solve_hastily, split

EVAL_FILE, POOL_FILE, EXAMPLES_FILE = "addition_eval.jsonl", "addition_pool.jsonl", "examples.jsonl"
TRAIN_FILE, SOLVED_FILE = "addition_train.jsonl", "addition_solved.jsonl"


def as_items(problems: tuple[Problem, ...], prefix: str) -> list[dict[str, str]]:
    """Problems as items, numbered in order: `eval-000`, `eval-001` …"""
    return [
        {"id": f"{prefix}-{index:03d}", "problem": problem.prompt, "answer": problem.answer}
        for index, problem in enumerate(problems)
    ]


def as_training_set(problems: tuple[Problem, ...]) -> list[dict[str, Any]]:
    """Problems as rows of a training set, numbered in order, each with how hard it is."""
    rows = zip(as_items(problems, "train"), problems, strict=True)
    return [{**item, "difficulty": 1 + problem.units} for item, problem in rows]


def as_solved_set(problems: tuple[Problem, ...]) -> list[dict[str, Any]]:
    """Problems as rows of a training set that says how to solve them, and how not to."""
    return [
        {
            **row,
            "completion": solve_carefully(problem),
            "chosen": solve_carefully(problem),
            "rejected": solve_hastily(problem),
        }
        for row, problem in zip(as_training_set(problems), problems, strict=True)
    ]


def to_json_lines(items: Sequence[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items)


def read_json_lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m trainers.tiny.items", description="Write the held-out items and the pool of prompts."
    )
    parser.add_argument("--out", type=Path, required=True, help="an existing folder")
    args = parser.parse_args(argv)
    if not args.out.is_dir():
        print(f"items: {args.out} is not a folder: make it first, or choose another --out", file=sys.stderr)
        return 2
    parts = split()
    for name, problems, prefix in ((EVAL_FILE, parts.eval, "eval"), (POOL_FILE, parts.pool, "pool")):
        (args.out / name).write_text(to_json_lines(as_items(problems, prefix)), encoding="utf-8")
        print(f"written: {args.out / name} ({len(problems)} items)")
    for name, as_rows in ((TRAIN_FILE, as_training_set), (SOLVED_FILE, as_solved_set)):
        rows = as_rows(parts.training_set)
        (args.out / name).write_text(to_json_lines(rows), encoding="utf-8")
        print(f"written: {args.out / name} ({len(rows)} rows)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
