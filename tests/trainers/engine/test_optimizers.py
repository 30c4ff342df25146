"""Every optimizer steps as its library says, and keeps the contracts of a hot, shared and resumed engine."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from prodigyopt import Prodigy
from safetensors.torch import load_file
from schedulefree import AdamWScheduleFree

from sweeps.spec import EngineSpec, InitSpec, OptimSpec, RunSpec, SpecError
from sweeps.spec.optimizers import OPTIMIZERS
from tests.trainers.comparing import column, numbers
from tests.trainers.engine.test_half_finetuning import moved_by
from tests.trainers.test_phases import after
from tests.trainers.test_run_group import alone, together
from tests.trainers.worlds import tiny_spec
from trainers.engine.engine import Engine
from trainers.engine.half_finetuning import frozen_half
from trainers.model.base_model import load_weights
from trainers.protocol import Cancelled, RunContext

SETTINGS: dict[str, dict[str, Any]] = {
    "adamw": {"lr": 2e-4, "weight_decay": 0.1},
    "adam": {"lr": 2e-4, "weight_decay": 0.1, "beta1": 0.8},
    "sgd": {"lr": 1e-2, "weight_decay": 0.1, "momentum": 0.8},
    "lion": {"lr": 3e-5, "weight_decay": 0.1, "beta2": 0.99},
    "adafactor": {"lr": 3e-3, "weight_decay": 0.1},
    "muon": {"lr": 2e-4, "weight_decay": 0.1, "momentum": 0.95},
    "schedule_free": {"lr": 2e-4, "weight_decay": 0.1},
    "prodigy": {"lr": 1.0, "weight_decay": 0.1, "d0": 1e-5},
}
"""A setting of each that moves the tiny model within a few steps."""

STAGES = [(name, stage) for name, optimizer in OPTIMIZERS.items() for stage in optimizer.zero_stages]


def spec_of(name: str, stage: int = 0, **groups: Any) -> RunSpec:
    changes = {"steps": 4, "eval": {"limit": 12, "steps": [0]}} | groups
    return tiny_spec(optim={"name": name} | SETTINGS[name], engine={"zero_stage": stage}, **changes)


# Against the libraries, on the same gradients

RATES = [1.0, 1.0, 0.5]
"""Share of the peak rate of each step that the engines take."""


def new_model() -> torch.nn.Module:
    return load_weights(tiny_spec("tiny-32").model, precision="fp32", attention="sdpa")


def gradients_of(model: torch.nn.Module, step: int) -> list[torch.Tensor]:
    """Gradients that clipping at 1 makes smaller at one step and not at another."""
    generator = torch.Generator().manual_seed(step)
    scale = (1e-4, 1e-1, 1e-3)[step]
    return [scale * torch.randn(p.shape, generator=generator) for p in model.parameters()]


def of_library(name: str, model: torch.nn.Module) -> list[torch.optim.Optimizer]:
    """The optimizer as its library is used by itself."""
    s = SETTINGS[name]
    lr, decay = s["lr"], s["weight_decay"]
    betas = (s.get("beta1", 0.9), s.get("beta2", 0.999))
    all_of = list(model.parameters())
    inner = [p for n, p in model.named_parameters() if "layers" in n and p.ndim == 2]
    rest = [p for n, p in model.named_parameters() if not ("layers" in n and p.ndim == 2)]
    builders = {
        "adamw": lambda: [torch.optim.AdamW(all_of, lr, betas, weight_decay=decay)],
        "adam": lambda: [torch.optim.Adam(all_of, lr, betas, weight_decay=decay)],
        "sgd": lambda: [torch.optim.SGD(all_of, lr, momentum=s["momentum"], weight_decay=decay)],
        "adafactor": lambda: [torch.optim.Adafactor(all_of, lr, weight_decay=decay)],
        "muon": lambda: [
            torch.optim.Muon(
                inner, lr, weight_decay=decay, momentum=s["momentum"], adjust_lr_fn="match_rms_adamw"
            ),
            torch.optim.AdamW(rest, lr, betas, weight_decay=decay),
        ],
        "schedule_free": lambda: [AdamWScheduleFree(all_of, lr, betas, weight_decay=decay)],
        "prodigy": lambda: [Prodigy(all_of, lr, betas, weight_decay=decay, d0=s["d0"])],
    }
    return builders[name]()


def stepped(name: str, gang: Any) -> tuple[Engine, dict[str, torch.Tensor], list[float]]:
    """An engine after three steps on given gradients, its weights before any, and the norms it told."""
    optim = OptimSpec(name=name, **SETTINGS[name])
    engine = Engine(new_model(), optim, EngineSpec(), gang)
    before = engine.full_weights()
    norms = []
    for step, share in enumerate(RATES):
        engine.set_gradients(gradients_of(engine.module, step))
        norms.append(engine.step(optim.lr * share))
    return engine, before, norms


@pytest.mark.parametrize("name", [n for n in OPTIMIZERS if n != "lion"])
def test_steps_are_those_of_the_library_by_itself(trainer, name):
    engine, before, norms = stepped(name, trainer.gang)
    model = new_model()
    optimizers = of_library(name, model)
    for step, share in enumerate(RATES):
        for p, gradient in zip(model.parameters(), gradients_of(model, step), strict=True):
            p.grad = gradient
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        assert norms[step] == pytest.approx(float(norm), rel=1e-5)
        for optimizer in optimizers:
            if name == "schedule_free":
                optimizer.train()
            for group in optimizer.param_groups:
                group["lr"] = SETTINGS[name]["lr"] * share
            optimizer.step()
    if name == "schedule_free":
        for n, p in model.named_parameters():
            assert torch.allclose(dict(engine.module.named_parameters())[n], p, atol=1e-6)
        optimizers[0].eval()
    result = engine.full_weights()
    moved = max(float((result[n] - before[n]).abs().max()) for n in result)
    for n, p in model.named_parameters():
        assert torch.allclose(result[n], p, rtol=0, atol=1e-4 * moved), n
    engine.close()


def orthogonal(gradient: np.ndarray) -> np.ndarray:
    """Five steps of Newton and Schulz as Muon takes them, in float64."""
    x = gradient.T if gradient.shape[0] > gradient.shape[1] else gradient
    x = x / max(np.linalg.norm(x), 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.T if gradient.shape[0] > gradient.shape[1] else x


@pytest.mark.parametrize("name", ["sgd", "lion", "muon"])
def test_steps_are_those_of_the_published_formula(trainer, name):
    """Derived once more in float64; Muon's own rounds its orthogonal matrices to bfloat16."""
    engine, before, _ = stepped(name, trainer.gang)
    s, result = SETTINGS[name], engine.full_weights()
    names = [n for n, _ in engine.module.named_parameters()]
    theta = {n: before[n].double().numpy() for n in names}
    m = {n: np.zeros_like(v) for n, v in theta.items()}
    sure = {n: np.ones(v.shape, dtype=bool) for n, v in theta.items()}
    inner = [n for n in names if "layers" in n and theta[n].ndim == 2]
    for step, share in enumerate(RATES):
        drawn = [g.double().numpy() for g in gradients_of(engine.module, step)]
        clip = min(1.0, 1.0 / (np.sqrt(sum((g**2).sum() for g in drawn)) + 1e-6))
        lr, decay = s["lr"] * share, s["weight_decay"]
        for n, g in zip(names, (g * clip for g in drawn), strict=True):
            if name == "sgd":
                m[n] = s["momentum"] * m[n] + g + decay * theta[n]
                theta[n] = theta[n] - lr * m[n]
            elif name == "lion":
                average = 0.9 * m[n] + 0.1 * g
                sure[n] &= np.abs(average) > 1e-5 * np.abs(g)  # of what cancels, float32 has another sign
                update = np.sign(average)
                theta[n] = theta[n] * (1 - lr * decay) - lr * update
                m[n] = s["beta2"] * m[n] + (1 - s["beta2"]) * g
            elif n in inner:
                m[n] = s["momentum"] * m[n] + (1 - s["momentum"]) * g
                update = orthogonal((1 - s["momentum"]) * g + s["momentum"] * m[n])
                scale = 0.2 * np.sqrt(max(g.shape))
                theta[n] = theta[n] * (1 - lr * decay) - lr * scale * update
    assert sum(s.sum() for s in sure.values()) > 0.999 * sum(s.size for s in sure.values())
    share_of_step = 0.03 if name == "muon" else 1e-3
    for n in inner if name == "muon" else names:
        moved = np.abs(theta[n] - before[n].double().numpy()).max()
        off = np.abs(theta[n] - result[n].double().numpy())[sure[n]]
        assert off.max() <= share_of_step * moved + 1e-6, n
    engine.close()


# Hot, shared, resumed, sharded


@pytest.mark.parametrize(("name", "stage"), STAGES)
def test_hot_equals_cold_bit_for_bit_and_stages_agree_within_tolerance(trainer, name, stage):
    spec = spec_of(name, stage)
    trainer.engines.discard(spec)
    cold = trainer.run(spec, RunContext()).to_json()
    trainer.run(spec_of(name, stage, seed=9, steps=3), RunContext())
    assert numbers(trainer.run(spec, RunContext()).to_json()) == numbers(cold)
    plain = trainer.run(spec_of(name), RunContext()).to_json()
    assert column(cold, "loss") == pytest.approx(column(plain, "loss"), abs=2e-6)
    assert len(set(column(cold, "loss"))) == 4


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_runs_that_share_steps_have_the_bits_of_runs_alone(trainer, name):
    specs = [
        dataclasses.replace(
            spec_of(name, steps=steps, schedule={"name": schedule}, eval={"limit": 8, "steps": [0, first]}),
            seed=3,
        )
        for steps, schedule, first in (
            (2, "constant", 2),
            (4, "constant", 1),
            (4, "linear", 2),
            (4, "wsd", 3),
        )
    ]
    assert together(trainer, specs) == alone(trainer, specs)


@pytest.mark.parametrize(
    ("name", "stage"), [*((n, 0) for n in OPTIMIZERS), ("schedule_free", 2), ("prodigy", 1), ("lion", 3)]
)
def test_a_killed_run_resumes_to_the_same_bits(trainer, tmp_path, name, stage):
    spec = spec_of(
        name, stage, steps=6, resources={"save_every_steps": 2}, eval={"limit": 8, "steps": [0, 2, 5]}
    )
    whole = trainer.run(spec, RunContext()).to_json()
    beats: list[str] = []
    killed = RunContext(checkpoint_dir=tmp_path, cancelled=lambda: len(beats) >= 3, heartbeat=beats.append)
    with pytest.raises(Cancelled):
        trainer.run(spec, killed)
    trainer.engines.discard(spec)
    steps: list[str] = []
    resumed = trainer.run(spec, RunContext(checkpoint_dir=tmp_path, heartbeat=steps.append)).to_json()
    assert len(steps) == 4
    assert numbers(resumed) == numbers(whole)


@pytest.mark.slow
def test_two_ranks_agree_with_one(trainer, two_ranks):
    pairs = [(n, s) for n, s in STAGES if s in (0, 2) and not (n == "prodigy" and s)]
    specs = [spec_of(name, stage, resources={"world_size": 2}) for name, stage in pairs]
    for (name, _), result in zip(pairs, two_ranks.run(specs), strict=True):
        alone_ = trainer.run(spec_of(name), RunContext()).to_json()
        assert column(result, "loss") == pytest.approx(column(alone_, "loss"), abs=2e-6), name


@pytest.mark.parametrize("name", ["schedule_free", "prodigy", "lion", "sgd", "adam"])
def test_half_precision_trains_over_masters_and_resets(trainer, name):
    spec = dataclasses.replace(spec_of(name), engine=EngineSpec(precision="bf16", zero_stage=2))
    trainer.engines.discard(spec)
    cold = trainer.run(spec, RunContext()).to_json()
    trainer.run(dataclasses.replace(spec, seed=9), RunContext())
    assert numbers(trainer.run(spec, RunContext()).to_json()) == numbers(cold)
    assert len(set(column(cold, "loss"))) == 4


@pytest.mark.parametrize("name", [n for n in OPTIMIZERS if "half_every_steps" in OPTIMIZERS[n].reads])
def test_half_finetuning_keeps_the_other_half_still(trainer, name):
    spec = spec_of(name, steps=2, eval={"path": None})
    spec = dataclasses.replace(spec, optim=dataclasses.replace(spec.optim, half_every_steps=2))
    moved = moved_by(trainer, spec)
    assert {n for n, did in moved.items() if not did} == frozen_half(moved, spec.seed, 0)


# The average of schedule_free


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_schedule_free_is_judged_and_kept_at_its_average_and_trains_beside_it(trainer, tmp_path, stage):
    keeping = {"resources": {"keep_checkpoints": "all"}, "eval": {"limit": 8, "steps": [2]}}
    spec = spec_of("schedule_free", stage, **keeping)
    seen = []

    def look(_):
        engine = trainer.engines.latest
        trained = {n: p.detach().clone() for n, p in engine.module.named_parameters()}
        seen.append((trained, engine.full_weights()))
        now = dict(engine.module.named_parameters())
        assert all(torch.equal(trained[n], now[n]) for n in trained)

    trainer.run(spec, RunContext(checkpoint_dir=tmp_path, heartbeat=look))
    for step in (2, 4):
        trained, average = seen[step - 1]
        kept = load_file(tmp_path / f"step-{step}" / "model.safetensors")
        assert all(torch.equal(kept[n], average[n]) for n in kept)
        assert any(not torch.equal(trained[n], average[n]) for n in kept)


def test_judging_and_keeping_change_no_step_of_schedule_free(trainer, tmp_path):
    plain = trainer.run(spec_of("schedule_free", eval={"path": None}), RunContext()).to_json()
    often = spec_of(
        "schedule_free",
        resources={"keep_checkpoints": "all"},
        eval={"limit": 8, "steps": [0, 1, 2, 3], "logit_stats": True},
    )
    judged = trainer.run(often, RunContext(checkpoint_dir=tmp_path)).to_json()
    for name in ("loss", "grad_norm"):
        assert column(judged, name) == column(plain, name)


@pytest.mark.parametrize("stage", [0, 2])
def test_a_later_run_starts_from_the_average_in_memory_as_from_disk(trainer, tmp_path, stage):
    first = spec_of("schedule_free", stage, steps=2, resources={"keep_checkpoints": "last"})
    trainer.run(first, RunContext(checkpoint_dir=tmp_path))
    second = spec_of("adamw", stage, steps=2)
    start = InitSpec(runs=(first.run_id,), folders=(str(tmp_path / "step-2"),))
    from_disk = trainer.run(dataclasses.replace(second, init=start), RunContext())
    in_memory = trainer.run(after(first, second), RunContext())
    assert numbers(in_memory.to_json()) == numbers(from_disk.to_json())


# Packages


def test_a_package_that_is_not_installed_is_named_with_its_command(trainer, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "schedulefree", None)
    with pytest.raises(
        SpecError, match=r"schedule_free: the package schedulefree is not.*pip install 'emsweep"
    ):
        Engine(new_model(), OptimSpec(name="schedule_free"), EngineSpec(), trainer.gang)
