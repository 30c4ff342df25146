"""Free-running runs of one spec in two layouts part only where a draw sat on the edge between two tokens.

Logits carry the bits of their layout, and sampling jumps: a uniform number that lies within rounding of the
edge between two tokens may fall on either side. Anything else that sets two layouts apart is a bug.
"""

from __future__ import annotations

import pytest
import torch

from sweeps.spec import RunSpec
from tests.trainers.worlds import tiny_spec
from trainers.decoding import Completion
from trainers.decoding.sampler import Sampler
from trainers.engine.gang import Gang
from trainers.engine.pool import EnginePool
from trainers.model.base_model import load_base
from trainers.model.prompt_encoding import encode_prompts
from trainers.noise import Stream, uniforms
from trainers.protocol import WorkerContext
from trainers.step.experience import TrainContext, gather
from trainers.step.reference import References
from trainers.step.rewards import Rewards
from trainers.step.rollout import draw_rollouts
from trainers.step.update import update_policy

NEAR = 1e-3
"""Probability mass between a draw and the edge that two layouts may see on different sides of it; a wrong
mask, noise or weight moves edges by tenths.
"""

STEPS, LR = 5, 1e-3
"""Far enough, fast enough, for rounding to grow from 1e-7 to where some draw meets an edge; not so far that
the policy has collapsed: there gradients are rounding themselves, and Adam makes whole steps of them.
"""

SEEDS = range(3)


@pytest.fixture(scope="module")
def gang():
    return Gang(WorkerContext())


@pytest.fixture(scope="module")
def pool(gang):
    engines = EnginePool(gang)
    yield engines
    engines.close()


def trace(spec: RunSpec, pool: EnginePool, gang: Gang) -> tuple[list[list[Completion]], list[dict]]:
    """Every rollout of every step, and the weights it was drawn from."""
    base = load_base(spec.model)
    engine, prompts = pool.acquire(spec), encode_prompts(spec, base)
    context = TrainContext(
        spec=spec,
        base=base,
        prompts=prompts,
        engine=engine,
        rewards=Rewards(gang),
        references=References(gang),
        gang=gang,
    )
    rows, weights = [], []
    for step in range(spec.steps):
        with torch.no_grad():
            rollouts = draw_rollouts(engine.module, spec, base, prompts, step=step, gang=gang, drafts=None)
        rows.append([rollouts.completion[d] for d in rollouts.distinct])
        weights.append(engine.full_weights())
        experience = gather(context, lambda _, drawn=rollouts: drawn)
        update_policy(spec.objective, engine, experience, spec.optim.lr, gang)
    return rows, weights


def distance_to_edge(
    spec: RunSpec,
    module: torch.nn.Module,
    weights: dict,
    step: int,
    row: int,
    completion: Completion,
    other: Completion,
) -> float:
    """Mass between the draw that first told two rollouts apart and the edge it fell beside."""
    base = load_base(spec.model)
    [prompt] = encode_prompts(spec, base)
    position = next(i for i, (a, b) in enumerate(zip(completion, other, strict=False)) if a != b)
    module.load_state_dict(weights, strict=False)
    with torch.no_grad():
        logits_NV = module(input_ids=torch.tensor([[*prompt, *completion[:position]]])).logits[:, -1]
    cumulative_V = Sampler(temperature=spec.sampling.temperature).cumulative(logits_NV, None)[0]
    total = spec.sampling.num_rollouts
    draw = float(uniforms(spec.seed, Stream.ROLLOUT, step, position, total)[row]) * float(cumulative_V[-1])
    low, high = sorted((completion[position], other[position]))
    # Between the two tokens lie only edges of tokens of no mass: the nearest is the one that matters.
    return min(abs(draw - float(edge)) for edge in cumulative_V[low:high])


def test_layouts_part_at_a_near_tie_or_not_at_all(pool, gang):
    distances = []
    for seed in SEEDS:
        spec, other = (
            tiny_spec(
                "tiny-96",
                "92+09=",
                seed=seed,
                steps=STEPS,
                sampling={"num_rollouts": 512, "temperature": 1.2},
                eval={"steps": [0, STEPS]},
                optim={"lr": LR},
                engine={"zero_stage": zero_stage, "micro_batch": micro_batch},
            )
            for zero_stage, micro_batch in ((0, 0), (2, 5))
        )
        rows, weights = trace(spec, pool, gang)
        others, _ = trace(other, pool, gang)
        step = next((k for k in range(STEPS) if rows[k] != others[k]), None)
        if step is None:
            continue
        module = pool.acquire(spec).module
        distances += [
            distance_to_edge(spec, module, weights[step], step, row, completion, theirs)
            for row, (completion, theirs) in enumerate(zip(rows[step], others[step], strict=True))
            if completion != theirs
        ]
    assert distances, "no pair of runs parted: nothing was compared"
    assert max(distances) < NEAR, distances
