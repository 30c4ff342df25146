"""The groups of a run's configuration that say how it trains: optimizer, schedule, sampling, engine.

Written as :mod:`sweeps.spec.data_groups` says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Literal, get_args

from sweeps.spec.data_groups import compute
from sweeps.spec.errors import choice, require
from sweeps.spec.optimizers import COMMON, OPTIMIZERS, readers


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimSpec:
    """The optimizer. A field that it does not read keeps its default (:mod:`sweeps.spec.optimizers`)."""

    name: str = "adamw"
    """``adamw``, ``adam``, ``sgd``, ``lion``, ``adafactor``, ``muon``, ``schedule_free`` or ``prodigy``."""
    lr: float = 2e-5
    """Peak learning rate, multiplied by the schedule. What a good one is depends on the optimizer."""
    beta1: float = 0.9
    """Decay of the first moment; ``schedule_free`` trains at this share of the average, the rest at its
    newest point.
    """
    beta2: float = 0.999
    """Decay of the second moment; of the average itself in ``lion``."""
    eps: float = 1e-8
    """Term added to the denominator."""
    weight_decay: float = 0.01
    """Weight decay; ``adam`` and ``sgd`` add it to the gradient, the others take it off the weights."""
    grad_clip: float = 1.0
    """Largest global gradient norm; 0 turns clipping off."""
    half_every_steps: int = field(default=0, metadata={"omit_at": 0})
    """Half fine-tuning (arXiv 2404.18466): a random half of the matrices and norms trains, another one after
    so many optimizer steps; 0 trains all.
    """
    momentum: float = field(default=0.9, metadata={"omit_at": 0.9})
    """Decay of the average of gradients, of ``sgd`` (0 turns it off) and ``muon``."""
    d0: float = field(default=1e-6, metadata={"omit_at": 1e-6})
    """First estimate of ``prodigy``; a run of few steps mostly measures how it grows."""
    d_coef: float = field(default=1.0, metadata={"omit_at": 1.0})
    """Factor of the estimate of ``prodigy``, its knob: 0.5 and 2 are usual."""

    def __post_init__(self) -> None:
        choice("optim.name", self.name, OPTIMIZERS)
        require(0 < self.lr < math.inf, "optim.lr", self.lr, "must be a number above 0, such as 2e-5")
        for key in ("beta1", "beta2", "momentum"):
            require(0 <= getattr(self, key) < 1, f"optim.{key}", getattr(self, key), "must lie in [0, 1)")
        for key in ("eps", "d0", "d_coef"):
            value = getattr(self, key)
            require(0 < value < math.inf, f"optim.{key}", value, "must be a number above 0")
        require(self.weight_decay >= 0, "optim.weight_decay", self.weight_decay, "must be at least 0")
        require(
            self.grad_clip >= 0,
            "optim.grad_clip",
            self.grad_clip,
            "must be at least 0 (0 turns clipping off)",
        )
        require(
            self.half_every_steps >= 0,
            "optim.half_every_steps",
            self.half_every_steps,
            "must be at least 0 (0 trains all weights)",
        )
        for f in fields(self):
            value, unread = getattr(self, f.name), f.name not in (*COMMON, *OPTIMIZERS[self.name].reads)
            require(
                not unread or value == f.default,
                f"optim.{f.name}",
                value,
                f"optim.name={self.name} does not read it; leave it at {f.default}, or choose one of "
                f"{', '.join(readers(f.name))}",
            )
        require(
            self.name != "schedule_free" or self.beta1 > 0,
            "optim.beta1",
            self.beta1,
            "must be above 0 for optim.name=schedule_free, whose average it weighs",
        )


Schedule = Literal[
    "constant",
    "linear",
    "cosine",
    "inverse_sqrt",
    "wsd",
    "rex",
    "power",
    "infinite",
    "onecycle",
    "refined",
    "autolrs",
]
DecayShape = Literal["linear", "sqrt"]
Overlong = Literal["refuse", "truncate"]
Precision = Literal["fp32", "bf16", "fp16"]
Decoder = Literal["auto", "tree", "cached", "vllm"]

SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)
"""Names of :mod:`sweeps.sharing.schedules`."""

CANDIDATES = 10
"""Rates that ``autolrs`` tries each time, each for one part in so many of the steps that follow: trying costs
what training does (arXiv 2105.10762).
"""

LEAST_LOSSES = 8
"""Losses that the three parameters of a forecast are fitted to, at least."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleSpec:
    """Multiplier of the peak learning rate at each step; see :mod:`sweeps.sharing.schedules`."""

    name: Schedule = "constant"
    """Name of the schedule."""
    warmup_steps: int = 0
    """Steps of linear warmup, step s using (s+1)/warmup_steps so that no step is wasted at zero."""
    min_ratio: float = field(default=0.0, metadata={"omit_at": 0.0})
    """Multiplier that ``cosine`` approaches."""
    decay_fraction: float = field(default=0.2, metadata={"omit_at": 0.2})
    """Share of the steps over which ``wsd`` and ``infinite`` decay, at the end; at least one step does."""
    decay_shape: DecayShape = field(default="linear", metadata={"omit_at": "linear"})
    """How ``wsd`` decays: ``linear`` or ``sqrt``."""
    power_exponent: float = field(default=-0.51, metadata={"omit_at": -0.51})
    """Exponent b of ``power``, below 0."""
    power_timescale: float = field(default=1.0, metadata={"omit_at": 1.0})
    """Step T after which ``power`` falls below the peak."""
    cooldown_fraction: float = field(default=0.3, metadata={"omit_at": 0.3})
    """Share of the steps over which ``infinite`` falls from the peak to ``hold_ratio``."""
    hold_ratio: float = field(default=0.5, metadata={"omit_at": 0.5})
    """Multiplier that ``infinite`` holds."""
    final_ratio: float = field(default=0.1, metadata={"omit_at": 0.1})
    """Multiplier of the last step of ``infinite``."""
    rise_fraction: float = field(default=0.3, metadata={"omit_at": 0.3})
    """Share of the steps over which ``onecycle`` rises to the peak."""
    start_ratio: float = field(default=0.04, metadata={"omit_at": 0.04})
    """Multiplier of the first step of ``onecycle``; its last step has a ten-thousandth of that."""
    norms_path: str | None = compute(None)
    """Table of a first run of the same cell, for ``refined``: a row per step, or one per step and seed."""
    norms_field: str = compute("grad_norm")
    """Its column of gradient norms before clipping; the one beside it is ``step``, from 1."""
    norms: tuple[float, ...] = field(default=(), metadata={"omit_at": ()})
    """The norms themselves, one per step, the mean over a step's rows; read from ``norms_path``."""
    norms_power: int = field(default=1, metadata={"omit_at": 1})
    """Power of the norm that ``refined`` divides by: 1 for Adam and its like, 2 for ``sgd``."""
    probe_every_steps: int = field(default=100, metadata={"omit_at": 100})
    """Steps that ``autolrs`` trains at one rate; before, it tries several, each for a tenth as long."""
    probe_lowest_ratio: float = field(default=0.01, metadata={"omit_at": 0.01})
    """Multiplier of the lowest rate that ``autolrs`` tries; the highest is the peak."""

    def __post_init__(self) -> None:
        choice("schedule.name", self.name, SCHEDULES)
        require(
            0 < self.rise_fraction < 1, "schedule.rise_fraction", self.rise_fraction, "must lie in (0, 1)"
        )
        require(0 < self.start_ratio <= 1, "schedule.start_ratio", self.start_ratio, "must lie in (0, 1]")
        require(self.norms_power in (1, 2), "schedule.norms_power", self.norms_power, "must be 1 or 2")
        is_refined = self.name == "refined"
        require(
            is_refined or not (self.norms or self.norms_path),
            "schedule.norms_path",
            self.norms_path or list(self.norms),
            f"schedule={self.name} reads no norms; choose schedule=refined, or give them to those runs alone "
            "by a rule (sweep.set)",
        )
        require(
            not is_refined or bool(self.norms),
            "schedule.name",
            self.name,
            "needs the gradient norms of a first run of the same cell; run it with another schedule, save "
            "its steps as a table with the columns step and grad_norm, and set schedule.norms_path=FILE",
        )
        for number, norm in enumerate(self.norms, 1):
            require(0 < norm < math.inf, f"schedule.norms, step {number}", norm, "must be a number above 0")
        self._check_probes()
        require(self.warmup_steps >= 0, "schedule.warmup_steps", self.warmup_steps, "must be at least 0")
        require(0 <= self.min_ratio <= 1, "schedule.min_ratio", self.min_ratio, "must lie in [0, 1]")
        require(
            0 < self.decay_fraction <= 1, "schedule.decay_fraction", self.decay_fraction, "must lie in (0, 1]"
        )
        choice("schedule.decay_shape", self.decay_shape, get_args(DecayShape))
        require(self.power_exponent < 0, "schedule.power_exponent", self.power_exponent, "must be below 0")
        for key in ("power_timescale", "hold_ratio", "final_ratio"):
            require(getattr(self, key) > 0, f"schedule.{key}", getattr(self, key), "must be above 0")
        for key in ("cooldown_fraction", "hold_ratio", "final_ratio"):
            require(0 <= getattr(self, key) <= 1, f"schedule.{key}", getattr(self, key), "must be at most 1")

    def _check_probes(self) -> None:
        for f in (f for f in fields(self) if f.name.startswith("probe_")):
            require(
                self.probes or getattr(self, f.name) == f.default,
                f"schedule.{f.name}",
                getattr(self, f.name),
                f"schedule={self.name} tries no rates; choose schedule=autolrs, or set it for those runs "
                "alone by a rule (sweep.set)",
            )
        least = CANDIDATES * LEAST_LOSSES
        require(
            self.probe_every_steps >= least,
            "schedule.probe_every_steps",
            self.probe_every_steps,
            f"must be at least {least}: a rate is tried for a {CANDIDATES}th of it, and a forecast needs "
            f"{LEAST_LOSSES} losses",
        )
        require(
            0 < self.probe_lowest_ratio < 1,
            "schedule.probe_lowest_ratio",
            self.probe_lowest_ratio,
            "must lie in (0, 1)",
        )
        require(
            not self.probes or not self.warmup_steps,
            "schedule.warmup_steps",
            self.warmup_steps,
            "schedule=autolrs tries rates from the first step on; leave it at 0",
        )

    @property
    def probes(self) -> bool:
        """Whether rates are tried as a run goes, and not known before."""
        return self.name == "autolrs"

    @property
    def probe_steps(self) -> int:
        """Steps for which each rate is tried."""
        return self.probe_every_steps // CANDIDATES

    def num_probings(self, num_steps: int) -> int:
        """Times that rates are tried in a phase of so many steps; what is left over keeps the last rate."""
        return num_steps // self.probe_every_steps if self.probes else 0

    def undone_steps(self, num_steps: int) -> int:
        """Steps that a phase of so many takes to try rates, and undoes."""
        return self.num_probings(num_steps) * CANDIDATES * self.probe_steps

    def undone_draws(self, num_steps: int) -> int:
        """Batches of rollouts drawn for them; their first ones are those of the step that follows."""
        return self.num_probings(num_steps) * CANDIDATES * (self.probe_steps - 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingSpec:
    """How rollouts are drawn."""

    num_rollouts: int = 64
    """Rollouts per optimizer step, over all prompts, micro batches and ranks together."""
    temperature: float = 0.5
    """Sampling temperature."""
    top_p: float = 0.95
    """Nucleus mass kept; 1 keeps all."""
    top_k: int | Literal["model"] = 0
    """Most likely tokens kept; 0 keeps all, ``model`` as many as the model's generation config says, 50 where
    that says nothing.
    """
    repetition_penalty: float = 1.15
    """Penalty of tokens already seen (arXiv 1909.05858); 1 is none."""
    max_new_tokens: int = 512
    """Longest completion, in tokens."""
    max_prompt_tokens: int = 2048
    """Longest prompt, in tokens."""
    overlong: Overlong = "refuse"
    """What to do with a longer prompt: ``refuse``, or ``truncate`` its beginning."""

    def __post_init__(self) -> None:
        for key in ("num_rollouts", "max_new_tokens", "max_prompt_tokens"):
            require(getattr(self, key) >= 1, f"sampling.{key}", getattr(self, key), "must be at least 1")
        require(0 < self.temperature < math.inf, "sampling.temperature", self.temperature, "must be above 0")
        require(0 < self.top_p <= 1, "sampling.top_p", self.top_p, "must lie in (0, 1]")
        require(
            self.top_k == "model" or (isinstance(self.top_k, int) and self.top_k >= 0),
            "sampling.top_k",
            self.top_k,
            "must be at least 0 (0 keeps all), or model for that of the model's generation config",
        )
        require(
            self.repetition_penalty > 0,
            "sampling.repetition_penalty",
            self.repetition_penalty,
            "must be above 0",
        )
        choice("sampling.overlong", self.overlong, get_args(Overlong))


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineSpec:
    """The DeepSpeed engine. Only ``precision`` changes the science; the rest is layout."""

    precision: Precision = "fp32"
    """``fp32``, ``bf16`` or ``fp16`` (the last with dynamic loss scaling)."""
    zero_stage: int = compute(0)
    """ZeRO stage, 0 to 3."""
    micro_batch: int = compute(0)
    """Distinct rollouts per forward and rank; 0 takes all of them at once."""
    offload: bool = compute(False)
    """Keep optimizer state in host memory (ZeRO-2 and 3)."""
    gradient_checkpointing: bool = compute(False)
    """Recompute activations in the backward pass to save memory."""
    decoder: Decoder = field(default="auto", metadata={"compute": True, "science_at": "vllm"})
    """``tree`` (short completions), ``cached`` (KV cache), ``vllm``, or ``auto``. Only ``vllm`` draws other
    rollouts and is therefore part of the identity.
    """
    attention: str = compute("sdpa")
    """Attention implementation given to transformers."""
    max_hot_engines: int = compute(4)
    """Engines a worker keeps; the least recently used goes first."""
    pack: int = compute(0)
    """Most runs trained together in one forward (:mod:`sweeps.sharing.packs`); 0 trains each by itself."""
    rollout_rows: int = compute(0)
    """Rollouts that a rank decodes at once by the ``cached`` decoder; 0 takes all, or what fits memory."""
    eval_rows: int = compute(0)
    """Completions of a benchmark that a rank decodes at once; 0 takes ``eval.batch_items``, or what fits
    memory.
    """

    def __post_init__(self) -> None:
        choice("engine.precision", self.precision, get_args(Precision))
        require(self.zero_stage in (0, 1, 2, 3), "engine.zero_stage", self.zero_stage, "must be 0, 1, 2 or 3")
        require(
            self.micro_batch >= 0, "engine.micro_batch", self.micro_batch, "must be at least 0 (0 takes all)"
        )
        require(
            self.precision == "fp32" or self.zero_stage >= 1,
            "engine.precision",
            self.precision,
            "needs engine.zero_stage 1, 2 or 3, which keep fp32 master weights",
        )
        require(
            not self.offload or self.zero_stage >= 2,
            "engine.offload",
            self.offload,
            "needs engine.zero_stage 2 or 3",
        )
        choice("engine.decoder", self.decoder, get_args(Decoder))
        require(
            self.max_hot_engines >= 1, "engine.max_hot_engines", self.max_hot_engines, "must be at least 1"
        )
        require(self.pack >= 0, "engine.pack", self.pack, "must be at least 0 (0 trains each run by itself)")
        for key in ("rollout_rows", "eval_rows"):
            rows = getattr(self, key)
            require(rows >= 0, f"engine.{key}", rows, "must be at least 0 (0 takes what fits)")
