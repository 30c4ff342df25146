"""The measurements behind `docs/decisions`: each asks what would have to be paid for the other choice.

    python -m tests.benchmarks.decisions spool     durable records a second: spools against SQLite; a kill
    python -m tests.benchmarks.decisions index     counts of 13,440 runs: from SQLite, from the spools
    python -m tests.benchmarks.decisions pools     96 runs that compute nothing, by pool: start-up and memory
    python -m tests.benchmarks.decisions noise     counter-based draws: their cost, and what they depend on
    python -m tests.benchmarks.decisions layout    one row's logits alone, among others, and again

Each takes seconds and prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks.orchestration import launch_noop

RECORDS = 2_000
"""Records written one by one, each durable before the next: a second or two."""

BATCH = 50
"""Records that share one sync, as runs of 10 ms do in a batch of half a second."""

STUDY_RUNS = 13_440
POOL_RUNS = 96

WRITERS = 4
"""Processes that write at once."""

_WRITER = """
import sys
from pathlib import Path
from orchestrator.store.spool import SpoolWriter, encode_line
folder, num, batch, writer = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
row = {"kind": "result", "run_id": "0" * 32, "attempt": 0, "outcome": "done"}
line = encode_line(row, {"metrics": {"draw": 0.5}})
"""

_TO_SPOOL = """
spool = SpoolWriter(folder / f"{writer}.jsonl")
print(flush=True); sys.stdin.read()
for number in range(num):
    spool.append(line)
    if not (number + 1) % batch:
        spool.sync()
spool.close()
"""

_TO_SQLITE = """
import sqlite3
db = sqlite3.connect(folder / "results.sqlite", timeout=60)
db.execute("PRAGMA journal_mode=WAL")
db.execute("PRAGMA synchronous=FULL")
db.execute("CREATE TABLE IF NOT EXISTS results (run_id TEXT PRIMARY KEY, line BLOB) WITHOUT ROWID")
print(flush=True); sys.stdin.read()
for start in range(0, num, batch):
    rows = [(f"{writer}-{number:030x}", line) for number in range(start, start + batch)]
    with db:
        db.executemany("INSERT INTO results VALUES (?, ?)", rows)
db.close()
"""

_ENDLESS = """
import sys
from pathlib import Path
from orchestrator.store.spool import SpoolWriter, encode_line
writer = SpoolWriter(Path(sys.argv[1]))
number = 0
while True:
    writer.append(encode_line({"kind": "result", "number": number}, {"metrics": {"draw": 0.5}}))
    number += 1
"""


def per_second(num: int, work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return num / (time.perf_counter() - started)


def spool() -> dict[str, Any]:
    """The same records through either, one writer and several; then a writer killed in full flight."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name)
        for writers, batch in ((1, 1), (1, BATCH), (WRITERS, 1), (WRITERS, BATCH)):
            for kind in ("spool", "sqlite"):
                subfolder = folder / f"{kind}-{writers}-{batch}"
                subfolder.mkdir()
                figures[f"{kind}_per_s_{writers}_writers_{batch}_a_sync"] = rate(
                    kind, subfolder, writers, batch
                )
        figures |= killed(folder / "killed.jsonl")
    return figures


def rate(kind: str, folder: Path, writers: int, batch: int) -> float:
    """Durable records a second of several processes, from the last one's start to the last one's end."""
    code = _WRITER + {"spool": _TO_SPOOL, "sqlite": _TO_SQLITE}[kind]
    words = [str(folder), str(RECORDS // writers), str(batch)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, *words, str(number)], stdout=subprocess.PIPE, stdin=subprocess.PIPE
        )
        for number in range(writers)
    ]
    for process in processes:
        process.stdout.readline()  # it is up
    started = time.perf_counter()
    for process in processes:
        process.stdin.close()  # it may begin
    assert not any(process.wait() for process in processes)
    return RECORDS / (time.perf_counter() - started)


def killed(path: Path) -> dict[str, int]:
    """What a reader finds of a writer that was killed while it wrote."""
    from orchestrator.store.spool import SpoolHealth, read_spool

    with subprocess.Popen([sys.executable, "-c", _ENDLESS, str(path)]) as process:
        while not path.exists() or path.stat().st_size < 5_000_000:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    health = SpoolHealth()
    numbers = [line.header["number"] for line in read_spool(path, health)]
    assert numbers == list(range(len(numbers)))
    return {
        "killed_valid": health.num_valid,
        "killed_corrupt": health.num_corrupt,
        "killed_torn": health.num_torn,
    }


def index() -> dict[str, Any]:
    """What `status` costs with the index and without, and how large either is."""
    from orchestrator.store.index_reader import read_index
    from orchestrator.store.layout import Layout
    from sweeps.manifest.manifest_file import read_manifest

    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name) / "noop"
        launch_noop(STUDY_RUNS, folder, pool="local")
        layout = Layout(folder)
        started = time.perf_counter()
        db = sqlite3.connect(layout.state)
        counts = dict(db.execute("SELECT outcome, count(*) FROM runs GROUP BY outcome").fetchall())
        sqlite_s = time.perf_counter() - started
        db.close()
        run_ids = read_manifest(layout.manifest).run_ids
        started = time.perf_counter()
        book = read_index(layout, run_ids).book
        spools_s = time.perf_counter() - started
        assert counts == {"done": STUDY_RUNS}
        assert book.num_committed == STUDY_RUNS
        spool_bytes = sum(path.stat().st_size for path in layout.spools.iterdir())
        return {
            "runs": STUDY_RUNS,
            "from_sqlite_ms": 1000 * sqlite_s,
            "from_spools_ms": 1000 * spools_s,
            "sqlite_mib": layout.state.stat().st_size / 2**20,
            "spools_mib": spool_bytes / 2**20,
        }


def pools() -> dict[str, Any]:
    """One small sweep through each pool."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        for pool in ("inline", "local", "ray"):
            launched = launch_noop(POOL_RUNS, Path(folder) / pool, pool=pool)
            figures[f"{pool}_wall_s"] = launched["wall_s"]
            figures[f"{pool}_busy_s"] = launched["busy_s"]
            figures[f"{pool}_driver_mib"] = launched["driver_mib"]
    return figures


def noise() -> dict[str, Any]:
    """Seconds of a run's draws, beside a generator that counts for itself; equal whatever is drawn around."""
    import numpy as np

    from trainers.noise import Stream, uniforms

    rows, positions, steps = 64, 16, 10

    def counted() -> None:
        for step in range(steps):
            for position in range(positions):
                uniforms(7, Stream.ROLLOUT, step, position, rows)

    def sequential() -> None:
        generator = np.random.default_rng(7)
        for _ in range(steps * positions):
            generator.random(rows)

    calls = steps * positions
    one = uniforms(7, Stream.ROLLOUT, 3, 5, 1)
    return {
        "us_a_call_counter_based": 1e6 / statistics.median(per_second(calls, counted) for _ in range(9)),
        "us_a_call_sequential": 1e6 / statistics.median(per_second(calls, sequential) for _ in range(9)),
        "row_0_the_same_alone_and_among_64": bool(one[0] == uniforms(7, Stream.ROLLOUT, 3, 5, 64)[0]),
    }


def layout() -> dict[str, Any]:
    """A row's logits by the rows and the padding beside it; a gradient by its micro batches."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch
    from transformers import AutoModelForCausalLM

    from sweeps.manifest.data_files import local_path

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(local_path("pkg://trainers/tiny/models/tiny-64"))
    ids_BT = torch.randint(3, model.config.vocab_size, (64, 24), generator=torch.Generator().manual_seed(0))

    def logits_of(rows: int, tokens: int) -> torch.Tensor:
        with torch.no_grad():
            return model(input_ids=ids_BT[:rows, :tokens]).logits[0, :6]

    def gradient_of(rows: int) -> torch.Tensor:
        model.zero_grad()
        for chunk_BT in ids_BT.split(rows):
            log_p = torch.log_softmax(model(input_ids=chunk_BT).logits, -1)
            (-(log_p.exp() * log_p).sum() / ids_BT.numel()).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    row, gradient = logits_of(64, 6), gradient_of(64)
    return {
        "logits_again": (logits_of(64, 6) - row).abs().max().item(),
        "logits_alone_instead_of_among_64": (logits_of(1, 6) - row).abs().max().item(),
        "logits_padded_to_24_instead_of_6": (logits_of(64, 24) - row).abs().max().item(),
        "gradient_again": (gradient_of(64) - gradient).abs().max().item(),
        "gradient_in_micro_batches_of_8_over_its_largest": (
            (gradient_of(8) - gradient).abs().max() / gradient.abs().max()
        ).item(),
    }


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    measurements = {f.__name__: f for f in (spool, index, pools, noise, layout)}
    parser.add_argument("what", choices=list(measurements))
    print(json.dumps(measurements[parser.parse_args().what]()))


if __name__ == "__main__":
    main()
