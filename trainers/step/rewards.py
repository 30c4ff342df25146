"""Rewards of rollouts: what each is worth, as one weighted sum.

``verified``, ``majority`` and ``format`` read the text, through the grader that judges benchmarks: its time
is bounded, and an answer that overruns counts as wrong. ``objective.no_answer`` stands in the place of the
sum where the text holds no answer. ``self_certainty``, ``neg_entropy``,
``neg_entropy_sum`` and ``log_prob`` read what the policy thinks of the completion, ``overlong`` its length.

Equal rollouts are worth the same, so everything here is done once per distinct rollout.

Shapes: D distinct rollouts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sweeps.spec import ObjectiveSpec, RunSpec
from trainers.engine.gang import Gang
from trainers.evaluation.grading import Grader
from trainers.model.base_model import BaseModel
from trainers.step.rollout import Rollouts
from trainers.step.scoring import Scores

OVERLONG_SHARE = 0.2
"""Share of the longest completion, at its end, over which the length penalty rises (DAPO, arXiv 2503.14476:
4,096 of 20,480 tokens).
"""

OF_SCORES = frozenset(("self_certainty", "neg_entropy", "neg_entropy_sum", "log_prob"))
"""Rewards that need the policy's :class:`~trainers.step.scoring.Scores`."""

_OF_TEXT = frozenset(("verified", "majority", "format"))


@dataclass(frozen=True, kw_only=True)
class Earned:
    """What distinct rollouts are worth, float64 of shape (D,)."""

    reward_D: np.ndarray
    """Weighted sum of the objective's rewards."""
    telling_D: np.ndarray | None
    """By what a group's rollouts are told apart: whether they are right, where answers are verified, and
    otherwise the reward without the length penalty; ``None`` where nothing else is rewarded.
    """


class Rewards:
    """A worker's rewards, with the graders it keeps warm."""

    def __init__(self, gang: Gang) -> None:
        self._gang = gang
        self._graders = lru_cache(maxsize=8)(lambda pattern, s: Grader(pattern=pattern, timeout_s=s))

    def of(self, spec: RunSpec, base: BaseModel, rollouts: Rollouts, scores: Scores | None) -> Earned:
        """Add the objective's rewards up; every rank must call it.

        Args:
            scores: What the policy thinks of them; needed for :data:`OF_SCORES`.
        """
        objective = spec.objective
        wanted = _OF_TEXT & set(objective.rewards)
        if objective.no_answer is not None:
            wanted |= {"format"}
        values = self._judge(spec, base, rollouts, wanted, objective.answer_pattern) if wanted else {}
        if scores is not None:
            values |= of_scores(scores)
        if "overlong" in objective.rewards:
            lengths = [len(c) for c in rollouts.completion]
            values["overlong"] = overlong(lengths, spec.sampling.max_new_tokens)
        return earned(objective, values, len(rollouts.count))

    def are_right(
        self, spec: RunSpec, base: BaseModel, rollouts: Rollouts, pattern: str | None
    ) -> np.ndarray:
        """Whether each distinct rollout's answer is its prompt's right one, bool of shape (D,); every rank
        must call it.

        Args:
            pattern: Finds the answer; ``None`` lets math-verify find it.
        """
        judged = self._judge(spec, base, rollouts, {"verified"}, pattern)
        return np.asarray(judged["verified"] == 1)

    def close(self) -> None:
        self._graders.cache_clear()

    def _judge(
        self, spec: RunSpec, base: BaseModel, rollouts: Rollouts, wanted: Set[str], pattern: str | None
    ) -> dict[str, np.ndarray]:
        """Judge on rank 0 alone: a time limit may strike on one rank and not on another."""
        judged: dict[str, np.ndarray] = {}
        if self._gang.rank == 0:
            grader = self._graders(pattern, spec.eval.timeout_s)
            grader.begin()
            texts = [base.tokenizer.decode(c, skip_special_tokens=True) for c in rollouts.completion]
            judged = judge(grader, wanted, texts, spec.example.answers, rollouts)
        return self._gang.gather(judged)[0]


def earned(objective: ObjectiveSpec, values: Mapping[str, np.ndarray], num: int) -> Earned:
    """Add rewards up.

    Args:
        values: Of each reward, 1 for an answer that is right; and ``format``, where the objective has a
            reward of its own for completions without an answer.
        num: Distinct rollouts, D.
    """
    weights = objective.rewards
    worth = dict(values)
    if "verified" in weights:
        worth["verified"] = np.where(values["verified"] == 1, 1.0, objective.wrong_answer)

    def weighted(names: Iterable[str]) -> np.ndarray:
        total = sum((weights[name] * worth[name] for name in names), np.zeros(num))
        if objective.no_answer is None:
            return total
        return np.where(values["format"] == 1, total, objective.no_answer)

    others = [name for name in weights if name != "overlong"]
    told_apart = values["verified"] if "verified" in weights else weighted(others) if others else None
    return Earned(reward_D=weighted(weights), telling_D=told_apart)


def judge(
    grader: Grader, wanted: Set[str], texts: Sequence[str], labels: Sequence[str | None], rollouts: Rollouts
) -> dict[str, np.ndarray]:
    """What the texts of distinct rollouts earn, from 0 to 1: reward to float64 of shape (D,).

    Args:
        wanted: Which of ``verified``, ``majority`` and ``format``.
        labels: Right answer of each prompt; read for ``verified`` only.
        rollouts: The prompt and multiplicity of each text.
    """
    earned: dict[str, np.ndarray] = {}
    if "verified" in wanted:
        golds = [str(labels[p]) for p in rollouts.prompt]
        earned["verified"] = _ones(
            grader.judge(g, text).correct for g, text in zip(golds, texts, strict=True)
        )
    if "majority" in wanted:
        earned["majority"] = majority(
            [grader.answer(text) for text in texts], rollouts.prompt, rollouts.count
        )
    if "format" in wanted:
        earned["format"] = _ones(grader.has_answer(text) for text in texts)
    return earned


def _ones(said: Iterable[bool]) -> np.ndarray:
    return np.array(list(said), dtype=np.float64)


def majority(answers: Sequence[str | None], prompts: Sequence[int], counts: Sequence[int]) -> np.ndarray:
    """1 for the answer given most often for its prompt, 0 for others: float64 of shape (D,).

    Test-time reinforcement learning, arXiv 2504.16084. A completion without an answer has no vote; of equally
    many votes the answer that was drawn first wins.
    """
    votes: dict[int, dict[str, int]] = {}
    for answer, prompt, count in zip(answers, prompts, counts, strict=True):
        if answer is not None:
            of_prompt = votes.setdefault(prompt, {})
            of_prompt[answer] = of_prompt.get(answer, 0) + count
    winner = {prompt: max(of_prompt, key=lambda a: of_prompt[a]) for prompt, of_prompt in votes.items()}
    return _ones(a is not None and a == winner[p] for a, p in zip(answers, prompts, strict=True))


def overlong(lengths: Sequence[int], max_new_tokens: int) -> np.ndarray:
    """DAPO's soft length penalty, falling from 0 to −1 over the last fifth of the limit: float64, (D,)."""
    ramp = OVERLONG_SHARE * max_new_tokens
    return np.minimum((max_new_tokens - ramp - np.array(lengths, dtype=np.float64)) / ramp, 0.0)


def of_scores(scores: Scores) -> Mapping[str, np.ndarray]:
    """Rewards by what the policy thinks of its own completions; an empty completion has mean 0."""
    tokens_D = np.maximum(scores.tokens_D, 1)
    return {
        "self_certainty": scores.certainty_D / tokens_D,  # Intuitor, arXiv 2505.19590
        "neg_entropy": -scores.entropy_D / tokens_D,  # RENT, arXiv 2505.22660
        "neg_entropy_sum": -scores.entropy_D,  # EM-RL-token, arXiv 2505.15134
        "log_prob": scores.log_prob_D,  # EM-RL-sequence, arXiv 2505.15134
    }
