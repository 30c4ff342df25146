"""Judging a model on a benchmark: encode once, decode greedy and sampled, grade, keep counts per item.

Noise is keyed by (seed, item, sample, position) and is the same before and after training, so gains are
paired.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from sweeps.manifest.row_fields import Item, items_of
from sweeps.spec import EvalSpec, SpecError
from trainers.decoding import Completion, DecodeRequest
from trainers.decoding.cached import decode_in_parts
from trainers.decoding.em_inf import Sharpening
from trainers.decoding.sampler import Sampler
from trainers.engine.gang import Gang
from trainers.evaluation.grading import Grader
from trainers.model.base_model import BaseModel, vocabulary_size
from trainers.model.prompt_encoding import encode, render
from trainers.noise import Stream, shared_uniforms
from trainers.protocol import Evaluation

TEXTS_REMEMBERED = 100_000
"""Completions kept as text per benchmark, and as judged: repeats are most of them, and 10⁵ take about 30 MB
each. What the grader had no patience left to reach is not remembered.
"""


@dataclass(frozen=True, kw_only=True)
class DecodingSetting:
    """One way of decoding a benchmark."""

    temperature: float
    """Sampling temperature; 0 is greedy."""
    num_samples: int
    """Completions per item."""

    @property
    def mode(self) -> str:
        return "greedy" if self.temperature == 0 else "sampled"


def settings_of(spec: EvalSpec) -> list[DecodingSetting]:
    """The decoding settings a benchmark asks for, greedy first."""
    greedy = [DecodingSetting(temperature=0.0, num_samples=1)] if spec.greedy else []
    return greedy + [DecodingSetting(temperature=t, num_samples=spec.num_samples) for t in spec.temperatures]


def unreadable_golds(items: Sequence[Item], grader: Grader) -> list[int]:
    """Numbers of the items whose gold answer does not equal itself, so that no answer to them is ever
    right.
    """
    return [item.number for item in items if not grader.reads(item.gold)]


class Benchmark:
    """A benchmark encoded for one model's tokenizer, with the verdicts met so far."""

    def __init__(self, spec: EvalSpec, base: BaseModel) -> None:
        self.spec = spec
        self._base = base
        self.items = items_of(spec)
        self._prompts = [
            encode(
                render(
                    item.question,
                    template=spec.template,
                    system=spec.system if spec.system is not None else item.system,
                    format=spec.format,
                    tokenizer=base.tokenizer,
                    key="eval",
                    system_role=spec.system_role,
                ),
                base.tokenizer,
                format=spec.format,
            )
            for item in self.items
        ]
        self._grader = Grader(pattern=spec.pattern, timeout_s=spec.timeout_s, rule=spec.grader)
        if damaged := unreadable_golds(self.items, self._grader):
            raise SpecError(
                f"eval.path={spec.path!r} item {damaged[0]}: its gold answer does not equal itself, "
                "so that no answer "
                f"is ever right; mend it, or leave such items out with eval.drop_items={damaged}"
            )
        self._text = lru_cache(maxsize=TEXTS_REMEMBERED)(self._decoded_text)
        self._judged: dict[tuple[int, Completion], tuple[bool, bool, bool, bool, int]] = {}

    def evaluate(
        self,
        module: torch.nn.Module,
        settings: Sequence[DecodingSetting],
        *,
        step: int,
        seed: int,
        gang: Gang,
        rows: int = 0,
    ) -> list[Evaluation]:
        """Judge the model under each setting; items are shared out over the ranks and every rank gets the
        whole result.

        Args:
            rows: Completions that a rank decodes at once; 0 takes ``eval.batch_items``.
        """

        def decode(request: DecodeRequest) -> list[Completion]:
            pad_id = self._base.pad_id
            return decode_in_parts(module, request, rows=rows, pad_id=pad_id, any_rank=gang.any)

        vocab_size = vocabulary_size(module)
        return self.evaluate_by(decode, vocab_size, settings, step=step, seed=seed, gang=gang, rows=rows)

    def evaluate_by(
        self,
        decode: Callable[[DecodeRequest], list[Completion]],
        vocab_size: int,
        settings: Sequence[DecodingSetting],
        *,
        step: int,
        seed: int,
        gang: Gang,
        rows: int = 0,
    ) -> list[Evaluation]:
        """The same of any model.

        Args:
            decode: Draws the completions that are asked for: those of whole items, however few ``rows`` are.
        """
        self._grader.begin()
        items_of_rank = list(range(gang.rank, len(self.items), gang.world_size))
        per_item = sum(s.num_samples for s in settings)
        chunk = max(1, (rows or self.spec.batch_items) // per_item)
        completions: dict[int, list[Completion]] = {}
        # Ranks make equally many forwards: the longest share sets the number of chunks.
        longest = -(-len(self.items) // gang.world_size)
        for start in range(0, longest, chunk):
            chunk_items = items_of_rank[start : start + chunk] or [0]
            request = self._request(chunk_items, settings, seed, vocab_size)
            decoded = decode(request)
            for k, item in enumerate(chunk_items):
                completions[item] = decoded[k * per_item : (k + 1) * per_item]
        judged = {i: [self._judge(i, c) for c in completions[i]] for i in items_of_rank}
        everyone = {i: v for part in gang.gather(judged) for i, v in part.items()}
        counts_IS5 = np.array([everyone[i] for i in range(len(self.items))], dtype=np.int64)
        evaluations, first = [], 0
        for setting in settings:
            of_setting = counts_IS5[:, first : first + setting.num_samples].sum(1)
            first += setting.num_samples
            evaluations.append(_evaluation(self.spec.name, step, setting, of_setting))
        return evaluations

    @property
    def longest_prompt(self) -> int:
        """Tokens of the longest prompt."""
        return max(map(len, self._prompts))

    def close(self) -> None:
        self._grader.close()

    def _request(
        self, items: Sequence[int], settings: Sequence[DecodingSetting], seed: int, vocab_size: int
    ) -> DecodeRequest:
        """Completions of some items: for each, the settings' samples in order."""
        ways = [(k, sample) for k, s in enumerate(settings) for sample in range(s.num_samples)]
        item_of_row = np.repeat(np.asarray(items), len(ways))
        sample_of_row = np.tile([sample for _, sample in ways], len(items))
        num_samples = int(sample_of_row.max()) + 1

        def noise(position: int) -> np.ndarray:
            table = np.stack(
                [
                    shared_uniforms(seed, Stream.EVALUATION, s, position, len(self.items))
                    for s in range(num_samples)
                ]
            )
            return table[sample_of_row, item_of_row]

        return DecodeRequest(
            prompts=[self._prompts[i] for i in items],
            prompt_of_row=np.repeat(np.arange(len(items)), len(ways)),
            samplers=[
                Sampler(
                    temperature=s.temperature,
                    top_p=1.0 if s.temperature == 0 else self.spec.top_p,
                    sharpening=_sharpening(self.spec),
                )
                for s in settings
            ],
            sampler_of_row=np.tile([k for k, _ in ways], len(items)),
            uniforms=noise,
            max_new_tokens=self.spec.max_new_tokens,
            eos_ids=self._base.eos_ids,
            vocab_size=vocab_size,
        )

    def _judge(self, item: int, completion: Completion) -> tuple[bool, bool, bool, bool, int]:
        """What is counted of a completion: right, equal in text, an answer found, cut off, tokens."""
        known = self._judged.get((item, completion))
        if known is None:
            verdict = self._grader.judge(self.items[item].gold, self._text(completion))
            cut_off = completion[-1] not in self._base.eos_ids
            known = verdict.correct, verdict.strict, verdict.found, cut_off, len(completion)
            if self._grader.is_patient:  # else it may not have been read at all
                if len(self._judged) >= TEXTS_REMEMBERED:
                    self._judged.clear()
                self._judged[item, completion] = known
        return known

    def _decoded_text(self, completion: Completion) -> str:
        return self._base.tokenizer.decode(completion, skip_special_tokens=True)


def _sharpening(spec: EvalSpec) -> Sharpening | None:
    if not spec.em_inf_steps:
        return None
    return Sharpening(
        steps=spec.em_inf_steps,
        threshold_nats=spec.em_inf_threshold,
        kl_coef=spec.em_inf_kl,
        lr=spec.em_inf_lr,
    )


def _evaluation(benchmark: str, step: int, setting: DecodingSetting, counts_I5: np.ndarray) -> Evaluation:
    correct, strict, boxed, truncated, tokens = counts_I5.T.tolist()
    return Evaluation(
        benchmark=benchmark,
        step=step,
        mode=setting.mode,
        temperature=setting.temperature,
        num_samples=setting.num_samples,
        correct=correct,
        strict=strict,
        boxed=boxed,
        truncated=truncated,
        tokens=tokens,
    )
