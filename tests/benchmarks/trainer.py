"""What the trainer's inner loop is worth: whole runs against two plain ways of doing the same, and memory.

    python -m tests.benchmarks.trainer --json

``plain``   what a script does: build the engine for every run, draw 64 rollouts with ``generate`` of
            transformers without a KV cache, train on all 64 rows.
``cached``  the same with a KV cache and an engine that stays warm, its weights reset between runs.

All three take ten optimizer steps of 64 rollouts on the same problem with the same engine settings, and are
timed in turn, round after round, so that a slow moment of the machine meets all of them; ratios are medians
over rounds. Evaluation is outside the ratios, which compare training, and inside the shares.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from time import perf_counter

os.environ["OMP_NUM_THREADS"] = "1"

import torch

from sweeps.spec import RunSpec
from tests.trainers.worlds import tiny_spec
from trainers.engine.engine import Engine
from trainers.engine.gang import Gang
from trainers.model.base_model import BaseModel, load_base, load_weights
from trainers.model.prompt_encoding import encode_prompts
from trainers.objectives.chunks import CHUNK_ELEMENTS
from trainers.policy_trainer import PolicyTrainer
from trainers.protocol import RunContext, WorkerContext

ENTROPY_ROWS, ENTROPY_VOCABULARY = 1024, 151_936
"""Shape of the memory test: a quarter of 4,096 positions of Qwen2's vocabulary, 594 MiB of fp32 logits."""

SCRIPT_ENTROPY = """
import resource, sys, psutil, torch
torch.set_num_threads(1)
from trainers.objectives.entropy import token_entropy
from trainers.objectives.likelihood import token_terms
def entropy(z):
    if sys.argv[1] == "ours":
        return token_entropy(z, 0.5)
    if sys.argv[1] == "policy":
        return sum(token_terms(z, torch.zeros(z.shape[:-1], dtype=torch.long), 0.5, with_entropy=True))
    p = torch.softmax(z / 0.5, -1)
    return -(p * torch.log(p)).sum(-1)
warm = torch.randn(1, 4, 1000, requires_grad=True)
entropy(warm * 1.0).sum().backward()
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
def now(): return psutil.Process().memory_info().rss / 2**20
hidden = torch.randn(1, {rows}, 8)
weight = torch.randn({vocabulary}, 8, requires_grad=True)
before = now()
logits = torch.nn.functional.linear(hidden, weight)
with_logits = now()
entropy(logits).sum().backward()
print(before, with_logits, peak())
"""


def plain_run(spec: RunSpec, base: BaseModel, engine: Engine, *, use_cache: bool) -> None:
    """Ten steps the way a script takes them: ``generate``, then a forward over every row."""
    prompt = encode_prompts(spec, base)[0]
    total = spec.sampling.num_rollouts
    ids_BP = torch.tensor([prompt] * total)
    for _ in range(spec.steps):
        with torch.no_grad():
            rows_BT = engine.module.generate(
                input_ids=ids_BP,
                attention_mask=torch.ones_like(ids_BP),
                do_sample=True,
                temperature=spec.sampling.temperature,
                top_k=0,
                top_p=1.0,
                max_new_tokens=spec.sampling.max_new_tokens,
                eos_token_id=list(base.eos_ids),
                pad_token_id=base.pad_id,
                use_cache=use_cache,
            )
        mask_BT = (rows_BT[:, len(prompt) :] != base.pad_id).float()
        logits_BTV = engine.forward(input_ids=rows_BT, use_cache=False).logits[:, len(prompt) - 1 : -1]
        p_BTV = torch.softmax(logits_BTV.float() / spec.objective.temperature, -1)
        entropy_BT = -(p_BTV * torch.log(p_BTV)).sum(-1)
        engine.backward((entropy_BT * mask_BT).sum() / mask_BT.sum())
        engine.step(spec.optim.lr)


def timed(work: object, *args: object, **kwargs: object) -> float:
    """Seconds that a call takes."""
    start = perf_counter()
    work(*args, **kwargs)  # type: ignore[operator]
    return perf_counter() - start


def speed(rounds: int) -> dict[str, float]:
    """Median ratios of training time, and the shares of a whole evaluated run."""
    trainer = PolicyTrainer(WorkerContext())
    gang = Gang(WorkerContext())
    spec = tiny_spec(eval={"path": None})
    judged = tiny_spec(eval={"limit": 200, "steps": [0, 10]})
    base = load_base(spec.model)

    def build() -> Engine:
        return Engine(
            load_weights(spec.model, precision="fp32", attention="sdpa"), spec.optim, spec.engine, gang
        )

    def plain() -> None:
        engine = build()
        plain_run(spec, base, engine, use_cache=False)
        engine.close()

    warm = build()

    def cached() -> None:
        warm.reset(seed=0)
        plain_run(spec, base, warm, use_cache=True)

    def ours() -> None:
        trainer.run(spec, RunContext())

    for work in (plain, cached, ours):
        work()
    times = [(timed(plain), timed(cached), timed(ours)) for _ in range(rounds)]
    trainer.run(judged, RunContext())
    runs = [trainer.run(judged, RunContext()).metrics for _ in range(3 * rounds)]
    resets = [timed(warm.reset, 0) for _ in range(50)]

    def share(name: str) -> float:
        return statistics.median(float(r[name]) / float(r["wall_s"]) for r in runs)  # type: ignore[arg-type]

    rollout, train, evaluation = share("rollout_s"), share("train_s"), share("eval_s")
    run_s = statistics.median(t[2] for t in times)
    return {
        "run_s": run_s,
        "speedup_vs_plain": statistics.median(t[0] / t[2] for t in times),
        "speedup_vs_cached": statistics.median(t[1] / t[2] for t in times),
        "rollout_share": rollout,
        "train_share": train,
        "eval_share": evaluation,
        "other_share": 1 - rollout - train - evaluation,
        "reset_share": statistics.median(resets) / run_s,
    }


def entropy_memory() -> dict[str, float]:
    """Peak resident memory of entropy forward and backward, each way in a fresh process, over the logits'
    size.

    ``entropy_peak_ratio`` counts from before the logits exist, so the logits themselves are 1 of it;
    ``entropy_extra_ratio`` counts what the entropy adds on top of them. ``policy`` takes log-probabilities
    with the entropy beside them.
    """
    size_mib = ENTROPY_ROWS * ENTROPY_VOCABULARY * 4 / 2**20
    script = SCRIPT_ENTROPY.format(rows=ENTROPY_ROWS, vocabulary=ENTROPY_VOCABULARY)
    figures = {}
    for way, prefix in (("ours", "entropy"), ("policy", "policy"), ("naive", "entropy_naive")):
        out = subprocess.run(
            [sys.executable, "-c", script, way], capture_output=True, text=True, check=True
        ).stdout
        before, with_logits, peak = map(float, out.split())
        figures[f"{prefix}_peak_ratio"] = (peak - before) / size_mib
        figures[f"{prefix}_extra_ratio"] = (peak - with_logits) / size_mib
    return figures | {"entropy_logits_mib": size_mib, "entropy_chunk_mib": CHUNK_ELEMENTS["cpu"] * 4 / 2**20}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7, help="rounds of the three ways, default 7")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    figures = speed(options.rounds) | entropy_memory()
    if options.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:24} {value:10.3f}")


if __name__ == "__main__":
    main()
