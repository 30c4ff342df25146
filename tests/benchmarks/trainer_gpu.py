"""One optimizer step of a real model's size: this trainer against the reference trainer's settings.

    python -m tests.benchmarks.trainer_gpu --json
    python -m tests.benchmarks.trainer_gpu --size tiny --device cpu      # the same code in seconds, anywhere

The model is a randomly initialised Qwen2 (config below), written to a temporary folder and loaded from there
like any other. Random weights draw from a nearly flat distribution: no two rollouts are alike and none ends
early, so merging identical rollouts and stopping early, worth most on trained models, are worth nothing here.

``ours``       bf16, ZeRO-1, decoder and micro batch as given, prompt shared in the training forward.
``reference``  the published trainer's settings: bf16, ZeRO-2 with the optimizer in host memory (where a CPU
               has it anyway), and for each micro batch of 2 one ``generate`` without KV cache, a forward over
               both rows and a backward through the plain entropy; then the optimizer steps.

Both sides take one step unmeasured first. MFU = (2·N·R + 6·N·T) / (seconds · peak), where N is the number of
parameters (the tied embedding counted once, as it multiplies once, at the head), R the completion tokens
drawn (a forward each: 2·N) and T the tokens trained on (forward and backward: 6·N); R = T here. Attention and
the prompt are left out, and what a side computes again counts for nothing. The peak is the device's dense
bf16 rate.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

from sweeps.spec import RunSpec, spec_from_dict
from tests.trainers.made_models import save_random_model
from trainers.engine.engine import Engine
from trainers.engine.gang import Gang
from trainers.engine.pool import EnginePool
from trainers.model.base_model import BaseModel, load_base
from trainers.protocol import WorkerContext
from trainers.step.rollout import draw_rollouts
from trainers.step.update import update_policy

CONFIGS: dict[str, dict[str, Any]] = {
    "1.5b": {  # that of Qwen2.5-Math-1.5B
        "vocab_size": 151_936,
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
    },
    "tiny": {
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 176,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
}

SHAPES = {"1.5b": (64, 512, 128), "tiny": (8, 24, 72)}
"""Rollouts, new tokens and prompt tokens of a step."""

REFERENCE_MICRO_BATCH = 2

PEAK_TFLOPS = {"H200": 989.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0, "L4": 121.0}
"""Dense bf16 tensor-core rates of the makers' data sheets (SXM forms), by a word of the device's name."""


def make_model(folder: Path, size: str, device: torch.device) -> int:
    """Write a randomly initialised model; return its parameters."""
    shape = {**CONFIGS[size], "max_position_embeddings": 4096, "tie_word_embeddings": True}
    model = save_random_model(folder, dtype=torch.bfloat16, device=device, **shape)
    return sum(p.numel() for p in model.parameters())


def make_spec(folder: Path, options: argparse.Namespace, **engine: Any) -> RunSpec:
    """One step on one prompt with the published sampling settings, no evaluation."""
    num_rollouts, max_new_tokens, _ = SHAPES[options.size]
    return spec_from_dict(
        {
            "model": {"name": options.size, "path": str(folder)},
            "example": {"name": "one", "prompts": ["1+1="]},
            "sampling": {"num_rollouts": num_rollouts, "max_new_tokens": max_new_tokens},
            "engine": {"precision": "bf16", **engine},
            "steps": 1,
        }
    )


class Stopwatch:
    """Seconds between calls, the device's queued work included."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._last = self._now()

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return perf_counter()

    def lap(self) -> float:
        """Seconds since the last call."""
        before, self._last = self._last, self._now()
        return self._last - before


def our_step(
    spec: RunSpec, base: BaseModel, engine: Engine, prompt: list[int], step: int, gang: Gang
) -> dict[str, float]:
    """One step the way :mod:`trainers.policy_trainer` takes it."""
    watch = Stopwatch(gang.device)
    with torch.inference_mode():
        rollouts = draw_rollouts(engine.module, spec, base, [prompt], step=step, gang=gang, drafts=None)
    rollout_s = watch.lap()
    update = update_policy(spec, base, engine, [prompt], rollouts, spec.optim.lr, gang)
    tokens = rollouts.mean_tokens * spec.sampling.num_rollouts
    return {"rollout_s": rollout_s, "update_s": watch.lap(), "tokens": tokens, "loss": update.loss}


def reference_step(
    spec: RunSpec, base: BaseModel, engine: Engine, prompt: list[int], sample: int, gang: Gang
) -> dict[str, float]:
    """One step the published way; of ``sample`` micro batches only, scaled up to all, where it is not 0."""
    watch, size = Stopwatch(gang.device), REFERENCE_MICRO_BATCH
    all_batches = spec.sampling.num_rollouts // size
    batches = sample or all_batches
    ids_BP = torch.tensor([prompt] * size, device=gang.device)
    rollout_s = update_s = tokens = loss_sum = 0.0
    for _ in range(batches):
        with torch.no_grad():
            rows_BT = engine.module.generate(
                input_ids=ids_BP,
                attention_mask=torch.ones_like(ids_BP),
                do_sample=True,
                temperature=spec.sampling.temperature,
                top_k=0,
                top_p=spec.sampling.top_p,
                repetition_penalty=spec.sampling.repetition_penalty,
                max_new_tokens=spec.sampling.max_new_tokens,
                eos_token_id=list(base.eos_ids),
                pad_token_id=base.pad_id,
                use_cache=False,
            )
        rollout_s += watch.lap()
        mask_BC = rows_BT[:, len(prompt) :] != base.pad_id
        logits_BCV = engine.forward(input_ids=rows_BT, use_cache=False).logits[:, len(prompt) - 1 : -1]
        log_p_BCV = torch.log_softmax(logits_BCV / spec.objective.temperature, -1)
        entropy_BC = -(log_p_BCV.exp() * log_p_BCV).sum(-1)
        loss = (entropy_BC * mask_BC).sum() / mask_BC.sum() / batches
        engine.backward(loss)
        tokens, loss_sum = tokens + float(mask_BC.sum()), loss_sum + float(loss.detach())
        update_s += watch.lap()
    scale = all_batches / batches
    engine.step(spec.optim.lr)
    return {
        "rollout_s": rollout_s * scale,
        "update_s": update_s * scale + watch.lap(),
        "tokens": tokens * scale,
        "loss": loss_sum,
    }


def side(laps: list[dict[str, float]], num_parameters: int, peak_tflops: float | None) -> dict[str, Any]:
    """Medians over the measured steps, with rates."""
    rollout_s, update_s, tokens, loss = (
        statistics.median(lap[name] for lap in laps) for name in ("rollout_s", "update_s", "tokens", "loss")
    )
    step_s = rollout_s + update_s
    flops = (2 + 6) * num_parameters * tokens
    return {
        "rollout_s": rollout_s,
        "update_s": update_s,
        "step_s": step_s,
        "loss": loss,
        "tokens": tokens,
        "tokens_per_s": tokens / step_s,
        "rollout_tokens_per_s": tokens / rollout_s,
        "mfu": flops / (step_s * peak_tflops * 1e12) if peak_tflops else None,
    }


def peak_of(device: torch.device) -> float | None:
    """Dense bf16 TFLOP/s of the device, where known."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return next((peak for word, peak in PEAK_TFLOPS.items() if word in name), None)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Both sides, one after the other: each has the device's memory to itself."""
    transformers_logging.disable_progress_bar()
    gang = Gang(WorkerContext())
    if gang.device.type != options.device:
        raise SystemExit(f"--device {options.device}: this torch would run on {gang.device.type}")
    peak = options.peak_tflops or peak_of(gang.device)
    figures: dict[str, Any] = {"size": options.size, "device": _name(gang.device), "peak_tflops": peak}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        num_parameters = make_model(folder, options.size, gang.device)
        settings = {
            "ours": {"zero_stage": 1, "decoder": options.decoder, "micro_batch": options.micro_batch},
            "reference": {
                "zero_stage": 2,
                "offload": gang.device.type == "cuda",
                "micro_batch": REFERENCE_MICRO_BATCH,
            },
        }
        for name, engine_settings in settings.items():
            spec = make_spec(folder, options, **engine_settings)
            base, pool = load_base(spec.model), EnginePool(gang)
            prompt = base.tokenizer("12+34=" * SHAPES[options.size][2])["input_ids"][
                : SHAPES[options.size][2]
            ]
            engine = pool.acquire(spec)
            if gang.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            laps = [
                our_step(spec, base, engine, prompt, step, gang)
                if name == "ours"
                else reference_step(spec, base, engine, prompt, options.sample, gang)
                for step in range(1 + options.rounds)
            ]
            figures[name] = side(laps[1:], num_parameters, peak)
            if gang.device.type == "cuda":
                figures[name]["peak_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
            del engine
            pool.close()
            if gang.device.type == "cuda":
                torch.cuda.empty_cache()
    ours, reference = figures["ours"], figures["reference"]
    return figures | {
        "parameters": num_parameters,
        "speedup": reference["step_s"] / ours["step_s"],
        "rollout_speedup": reference["rollout_s"] / ours["rollout_s"],
        "update_speedup": reference["update_s"] / ours["update_s"],
    }


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=tuple(CONFIGS), default="1.5b")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument(
        "--decoder", choices=("cached", "vllm"), default="cached", help="ours, default cached"
    )
    parser.add_argument(
        "--micro-batch", type=int, default=16, help="rows of our training forward, default 16"
    )
    parser.add_argument("--rounds", type=int, default=2, help="measured steps a side, default 2")
    parser.add_argument(
        "--sample",
        type=int,
        default=0,
        help="micro batches of a reference step to run and scale up; 0 is all",
    )
    parser.add_argument("--peak-tflops", type=float, help="dense bf16 peak, for devices not listed")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    if options.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    figures = measure(options)
    if options.json:
        print(json.dumps(figures))
        return
    for name in ("ours", "reference"):
        for key, value in figures[name].items():
            print(f"{name + '.' + key:32} {'unknown' if value is None else format(value, '12.4g')}")
    for key in ("speedup", "rollout_speedup", "update_speedup"):
        print(f"{key:32} {figures[key]:12.4g}")


if __name__ == "__main__":
    main()
