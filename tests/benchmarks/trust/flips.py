"""One flipped bit in each of thousands of places of a small sweep: does any answer change in silence?"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from orchestrator.store import digests
from tests.benchmarks.trust.small_sweep import ask, make, names_damage

FLIPS = 2_000
"""Over all files, as many in each as its size allows."""

BATCH = 100
"""Flips that one process makes in its own copy."""


def measure(num_flips: int = FLIPS, num_processes: int | None = None) -> dict[str, Any]:
    """Flip, ask, compare with the answers of the whole sweep, flip back."""
    with tempfile.TemporaryDirectory(prefix="emsweep-flips-") as temporary:
        folder = make(Path(temporary) / "sweep")
        places = _places(folder, num_flips)
        batches = [(folder, places[start : start + BATCH]) for start in range(0, len(places), BATCH)]
        with ProcessPoolExecutor(num_processes or os.cpu_count()) as pool:
            found = [entry for batch in pool.map(_flip_all, batches) for entry in batch]
    kinds = Counter(kind for kind, *_ in found)
    return {
        "flips": len(found),
        "silent": kinds["silent"],
        "traceback": kinds["traceback"],
        "named": kinds["named"],
        "harmless": kinds["harmless"],
        "files": len({name for name, *_ in places}),
        "wrong": [list(entry) for entry in found if entry[0] in ("silent", "traceback")][:10],
    }


def _places(folder: Path, num: int) -> list[tuple[str, int, int]]:
    """File, byte and bit, spread over every file that holds anything."""
    dice = random.Random(5)
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size)
    each = -(-num // len(files))
    found = []
    for path in files:
        bits = 8 * path.stat().st_size
        chosen = dice.sample(range(bits), min(bits, each))
        found += [(path.relative_to(folder).as_posix(), bit // 8, bit % 8) for bit in chosen]
    while len(found) < num:
        path = dice.choice(files)
        byte = dice.randrange(path.stat().st_size)
        found.append((path.relative_to(folder).as_posix(), byte, dice.randrange(8)))
    dice.shuffle(found)
    return found


def _flip_all(batch: tuple[Path, list[tuple[str, int, int]]]) -> list[tuple[str, str, str, str]]:
    original, places = batch
    digests.TRY_AGAIN_S = 0.0  # nobody writes there
    found = []
    with tempfile.TemporaryDirectory(prefix="emsweep-flips-") as temporary:
        folder = Path(temporary) / "sweep"
        shutil.copytree(original, folder)
        clean = ask(folder)
        for name, byte, bit in places:
            path = folder / name
            data = path.read_bytes()
            path.write_bytes(data[:byte] + bytes([data[byte] ^ 1 << bit]) + data[byte + 1 :])
            answers = ask(folder)
            path.write_bytes(data)
            changed = [question for question in clean if answers[question] != clean[question]]
            wrong = [q for q in changed if not names_damage(q, answers[q])]
            where = f"{name} byte {byte} bit {bit}"
            kind, question = "harmless", ""
            if traced := [q for q in answers if answers[q][0] == "traceback"]:
                kind, question = "traceback", traced[0]
            elif wrong:
                kind, question = "silent", wrong[0]
            elif changed:
                kind = "named"
            found.append((kind, where, question, str(answers.get(question, ""))[:300]))
    return found
