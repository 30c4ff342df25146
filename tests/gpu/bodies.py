"""What the processes of the GPU tests do. Everything is imported late: by then the device is chosen."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from sweeps.spec import RunSpec


def facts() -> dict[str, Any]:
    """Where a gang of one finds itself."""
    import torch.distributed as dist

    from trainers.engine.gang import Gang
    from trainers.protocol import WorkerContext

    gang = Gang(WorkerContext())
    return {"backend": dist.get_backend(), "device": gang.device.type, "sum": _sum(gang)}


def _sum(gang: Any) -> float:
    import torch
    import torch.distributed as dist

    values = torch.ones(3, device=gang.device)
    dist.all_reduce(values)
    return float(values.sum())


def run_all(specs: Sequence[RunSpec]) -> list[dict[str, Any]]:
    """Run specs one after another on one worker; return their results as JSON."""
    from trainers.policy_trainer import PolicyTrainer
    from trainers.protocol import RunContext, WorkerContext

    trainer = PolicyTrainer(WorkerContext())
    results = [trainer.run(spec, RunContext()).to_json() for spec in specs]
    trainer.close()
    return results


def run_packed(specs: Sequence[RunSpec], together: int) -> list[dict[str, Any]]:
    """Run specs in packs, so many at a time; return their results as JSON."""
    from trainers.em import EntropyMinimization
    from trainers.protocol import RunContext, RunResult, WorkerContext

    trainer, found = EntropyMinimization(WorkerContext()), []
    for start in range(0, len(specs), together):
        own = specs[start : start + together]
        outcomes = dict(trainer.run_group(own, [RunContext()] * len(own)))
        for position in range(len(own)):
            outcome = outcomes[position]
            assert isinstance(outcome, RunResult), outcome
            found.append(outcome.to_json())
    trainer.close()
    return found


def free_steps(spec: RunSpec) -> tuple[list[dict[str, Any]], list[dict[str, float]]]:
    """Take the run's steps; return the rollouts of each and what it saw."""
    import torch

    from trainers.step.rollout import draw_rollouts

    def draw(step: int, engine: Any, base: Any, prompts: Any, gang: Any) -> Any:
        with torch.inference_mode():
            return draw_rollouts(engine.module, spec, base, prompts, step=step, gang=gang, drafts=None)

    return _steps(spec, draw)


def forced_steps(spec: RunSpec, recorded: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    """Take the run's steps on recorded rollouts; return what each saw."""
    from trainers.step.rollout import rollouts_from_json

    return _steps(spec, lambda step, *_: rollouts_from_json(recorded[step]))[1]


def _steps(
    spec: RunSpec, rollouts_at: Callable[..., Any]
) -> tuple[list[dict[str, Any]], list[dict[str, float]]]:
    from trainers.engine.gang import Gang
    from trainers.engine.pool import EnginePool
    from trainers.model.base_model import load_base
    from trainers.model.prompt_encoding import encode_prompts
    from trainers.protocol import WorkerContext
    from trainers.step.experience import TrainContext, gather
    from trainers.step.reference import References
    from trainers.step.rewards import Rewards
    from trainers.step.update import update_policy

    gang = Gang(WorkerContext())
    pool, base = EnginePool(gang), load_base(spec.model)
    engine, prompts = pool.acquire(spec), encode_prompts(spec, base)
    recorded, updates = [], []
    for step in range(spec.steps):
        rollouts = rollouts_at(step, engine, base, prompts, gang)
        context = TrainContext(
            spec=spec,
            base=base,
            prompts=prompts,
            engine=engine,
            rewards=Rewards(gang),
            references=References(gang),
            gang=gang,
        )
        experience = gather(context, lambda _, drawn=rollouts: drawn)
        update = update_policy(spec.objective, engine, experience, spec.optim.lr, gang)
        recorded.append(dataclasses.asdict(rollouts))
        updates.append(dataclasses.asdict(update))
    pool.close()
    return recorded, updates


def run_out_of_memory(spec: RunSpec) -> dict[str, Any]:
    """Ask the device for more than it has, the way a run would; then run on the same worker.

    Returns:
        The failure's class and message, and the outcome of the run after it.
    """
    import torch

    from orchestrator.scheduling.retry import classify
    from trainers.policy_trainer import PolicyTrainer
    from trainers.protocol import RunContext, WorkerContext

    trainer = PolicyTrainer(WorkerContext())
    device = trainer.gang.device
    total = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 1 << 50
    hoard = []
    try:
        while True:
            hoard.append(torch.empty(total // 2, dtype=torch.uint8, device=device))
    except (RuntimeError, MemoryError) as error:
        failure = classify(error)
    hoard.clear()
    result = trainer.run(spec, RunContext())
    trainer.close()
    return {"class": failure.failure_class, "message": failure.message, "outcome": result.outcome}
