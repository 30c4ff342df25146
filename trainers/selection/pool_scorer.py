"""What a base model does on each problem of a pool, for the rules of :mod:`sweeps.spec.selection_rules`.

    emsweep select pool.jsonl --by entropy --top 5

A pool is taken in chunks of :data:`CHUNK` problems, each decoded and scored together. Noise is counter-based,
so equal options on an equal pool give equal picks.

Shapes: P problems, N rollouts of each, E passes of training over the pool, D distinct rollouts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from sweeps.manifest.resolve import resolve_model
from sweeps.spec import (
    ExampleSpec,
    ObjectiveSpec,
    OptimSpec,
    RunSpec,
    SamplingSpec,
    SpecError,
    group_from_dict,
)
from sweeps.spec.data_groups import PromptFormat
from sweeps.spec.selection_rules import Curated, Curation, curate
from trainers.engine.engine import Engine
from trainers.engine.gang import Gang
from trainers.engine.pool import EnginePool
from trainers.evaluation.grading import Grader
from trainers.model.base_model import load_base
from trainers.model.prompt_encoding import encode_prompts
from trainers.protocol import WorkerContext
from trainers.step.batch import step_batch
from trainers.step.experience import TrainContext, gather
from trainers.step.reference import References
from trainers.step.rewards import Rewards, majority
from trainers.step.rollout import Rollouts, draw_rollouts
from trainers.step.scoring import score
from trainers.step.update import update_policy

CHUNK = 32
"""Problems decoded together: enough to fill a core, few enough for the logits of a large vocabulary."""

ROWS = 32
"""Distinct rollouts scored together."""

TRAINING_ROLLOUTS = 64
"""Rollouts of a step of training on one problem."""

GRADING_S = 5.0
"""Longest time for one answer."""


@dataclass(frozen=True, kw_only=True)
class Probing:
    """How a model is probed."""

    model: str
    samples: int = 16
    temperature: float = 1.0
    max_new_tokens: int = 16
    """Longest completion, in tokens."""
    pattern: str | None = None
    """Regular expression whose last match's first group is the answer; ``None`` lets math-verify find it."""
    system: str | None = None
    """System message of every problem."""
    seed: int = 0
    lr: float = 2e-4
    """Learning rate of rules that train."""
    steps: int = 5
    """Optimizer steps on each problem that ``boosting`` tries."""


@dataclass(frozen=True, kw_only=True)
class Probed:
    """What rollouts of the base model showed."""

    entropy_P: np.ndarray
    """Mean token entropy at temperature 1, nats."""
    majority_P: np.ndarray
    """Share of rollouts that give the answer given most often."""
    correct_P: np.ndarray
    """Rollouts that are right; zeros without labels."""


class Prober:
    """One model, kept hot over a pool."""

    def __init__(self, probing: Probing) -> None:
        """Load the model.

        Raises:
            SpecError: for a model that cannot be used.
        """
        config, need = resolve_model({"path": probing.model})
        if need is not None:
            raise SpecError(f"{need.what}: missing {', '.join(need.missing)}; {need.fix}")
        self._model = group_from_dict("model", config)
        self._probing = probing
        self._base = load_base(self._model)
        self._format: PromptFormat = (
            "chat" if getattr(self._base.tokenizer, "chat_template", None) else "plain"
        )
        self._gang = Gang(WorkerContext())
        self._engines, self._rewards = EnginePool(self._gang), Rewards(self._gang)
        self._references = References(self._gang)
        self._grader = Grader(pattern=probing.pattern, timeout_s=GRADING_S)

    @property
    def samples(self) -> int:
        return self._probing.samples

    def close(self) -> None:
        self._engines.close()
        self._rewards.close()
        self._grader.close()

    def probe(self, problems: Sequence[str], answers: Sequence[str] | None) -> Probed:
        """Draw and judge rollouts of every problem by the untrained model."""
        entropies, shares, correct = [], [], []
        for number, (prompts, labels) in enumerate(_chunks(problems, answers)):
            spec = self._spec(prompts, labels, self._probing.samples)
            engine = self._engines.acquire(spec)
            rollouts = self._draw(spec, engine, number)
            given = self._answers(rollouts)
            voted_D = majority(given, rollouts.prompt, rollouts.count)
            entropies.append(self._entropies(spec, engine, rollouts))
            shares.append(_per_problem(voted_D, rollouts, len(prompts)) / self._probing.samples)
            right_D = self._right(rollouts, labels) if labels else np.zeros(len(rollouts.count))
            correct.append(_per_problem(right_D, rollouts, len(prompts)))
        return Probed(
            entropy_P=np.concatenate(entropies),
            majority_P=np.concatenate(shares),
            correct_P=np.concatenate(correct).round().astype(np.int64),
        )

    def history(self, problems: Sequence[str], answers: Sequence[str], passes: int) -> np.ndarray:
        """Accuracy of every problem's rollouts in each pass of GRPO over the pool, shape (E, P)."""
        objective = ObjectiveSpec(
            name="grpo",
            temperature=self._probing.temperature,
            entropy_weight=0.0,
            reward_verified=1.0,
            answer_pattern=self._probing.pattern,
            advantage="group",
            aggregation="sequence",
        )
        chunks = list(_chunks(problems, answers))
        specs = [self._spec(prompts, labels, self._probing.samples, objective) for prompts, labels in chunks]
        engine = self._engines.acquire(specs[0])
        accuracy_EP = []
        for number in range(passes):
            row = []
            for position, spec in enumerate(specs):
                step = number * len(specs) + position
                rollouts = self._train(spec, engine, step)
                right_D = self._right(rollouts, spec.example.answers)
                row.append(_per_problem(right_D, rollouts, len(spec.example.prompts)) / self._probing.samples)
            accuracy_EP.append(np.concatenate(row))
        return np.array(accuracy_EP)

    def boost(self, problems: Sequence[str], answers: Sequence[str] | None, curation: Curation) -> Curated:
        """Run the rounds of ``boosting``: entropy minimization on each problem drawn, judged on that problem.

        Without labels a completion counts as right when it gives the answer that most of the base model's
        rollouts give.
        """
        believed: dict[int, str | None] = {}

        def attempt(problem: int, number: int) -> np.ndarray:
            label = (answers[problem],) if answers else ()
            spec = self._spec((problems[problem],), label, TRAINING_ROLLOUTS)
            engine = self._engines.acquire(spec)
            for step in range(self._probing.steps):
                rollouts = self._train(spec, engine, step)
                if not answers and problem not in believed:
                    believed[problem] = self._majority(rollouts)
            judged = self._spec((problems[problem],), label, self._probing.samples)
            rollouts = self._draw(judged, engine, self._probing.steps + number)
            if answers:
                right_D = self._right(rollouts, label) > 0
            else:
                given = self._answers(rollouts)
                right_D = np.array([a is not None and a == believed[problem] for a in given])
            return np.asarray(right_D[list(rollouts.distinct)])

        return curate(len(problems), attempt, curation, np.random.default_rng(self._probing.seed))

    def _spec(
        self,
        problems: Sequence[str],
        answers: Sequence[str],
        rollouts_each: int,
        objective: ObjectiveSpec | None = None,
    ) -> RunSpec:
        probing = self._probing
        return RunSpec(
            model=self._model,
            example=ExampleSpec(
                name="pool",
                prompts=tuple(problems),
                answers=tuple(answers),
                system=probing.system,
                format=self._format,
            ),
            objective=objective or ObjectiveSpec(),
            optim=OptimSpec(lr=probing.lr),
            sampling=SamplingSpec(
                num_rollouts=rollouts_each * len(problems),
                temperature=probing.temperature,
                top_p=1.0,
                repetition_penalty=1.0,
                max_new_tokens=probing.max_new_tokens,
            ),
            seed=probing.seed,
        )

    def _draw(self, spec: RunSpec, engine: Engine, step: int, redraw: int = 0) -> Rollouts:
        with torch.no_grad():
            return draw_rollouts(
                engine.module,
                spec,
                self._base,
                encode_prompts(spec, self._base),
                step=step,
                gang=self._gang,
                drafts=None,
                redraw=redraw,
            )

    def _train(self, spec: RunSpec, engine: Engine, step: int) -> Rollouts:
        """Take one optimizer step; return the rollouts it was taken on."""
        context = TrainContext(
            spec=dataclasses.replace(spec, engine=dataclasses.replace(spec.engine, micro_batch=ROWS)),
            base=self._base,
            prompts=encode_prompts(spec, self._base),
            engine=engine,
            rewards=self._rewards,
            references=self._references,
            gang=self._gang,
        )
        experience = gather(context, partial(self._draw, spec, engine, step))
        update_policy(spec.objective, engine, experience, self._probing.lr, self._gang)
        return experience.rollouts

    def _entropies(self, spec: RunSpec, engine: Engine, rollouts: Rollouts) -> np.ndarray:
        batch = step_batch(
            rollouts,
            encode_prompts(spec, self._base),
            size=ROWS,
            rank=0,
            world_size=1,
            base=self._base,
            device=self._gang.device,
        )
        scores = score(engine.module, batch, len(rollouts.count), 1.0, self._gang)
        num = len(spec.example.prompts)
        tokens_P = _per_problem(scores.tokens_D, rollouts, num)
        return _per_problem(scores.entropy_D, rollouts, num) / np.maximum(tokens_P, 1)

    def _answers(self, rollouts: Rollouts) -> list[str | None]:
        return [self._grader.answer(text) for text in self._texts(rollouts)]

    def _majority(self, rollouts: Rollouts) -> str | None:
        given = self._answers(rollouts)
        winners = majority(given, rollouts.prompt, rollouts.count)
        return next((a for a, wins in zip(given, winners, strict=True) if wins), None)

    def _right(self, rollouts: Rollouts, labels: Sequence[str | None]) -> np.ndarray:
        pairs = zip(self._texts(rollouts), rollouts.prompt, strict=True)
        return np.array([float(self._grader.judge(str(labels[p]), text).correct) for text, p in pairs])

    def _texts(self, rollouts: Rollouts) -> list[str]:
        decode = self._base.tokenizer.decode
        return [decode(c, skip_special_tokens=True) for c in rollouts.completion]


def _chunks(
    problems: Sequence[str], answers: Sequence[str] | None
) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    for start in range(0, len(problems), CHUNK):
        part = slice(start, start + CHUNK)
        yield problems[part], answers[part] if answers else ()


def _per_problem(values_D: np.ndarray, rollouts: Rollouts, num: int) -> np.ndarray:
    """Sum a figure of distinct rollouts, by multiplicity, over each problem: float64 of shape (P,)."""
    return np.bincount(
        list(rollouts.prompt), weights=values_D * np.array(rollouts.count, dtype=np.float64), minlength=num
    )
