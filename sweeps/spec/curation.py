"""The group ``curate``: training in rounds on what the model itself wrote, filtered and mended.

The procedure of *Escaping Collapse* (arXiv 2502.08924). Round t, from 1 to ``rounds``, takes
``steps / rounds`` optimizer steps with a fresh optimizer and its own run of the learning-rate schedule::

    generate   the model of the round before, at first the base model, writes ``completions`` of each prompt
    filter     a completion passes if its answer is right; with probability ``gamma`` that is flipped
    label      a prompt none of whose completions passed goes to a labeler: with probability ``beta`` its
               right completion (``data.completion_field``) is trained on, else what ``otherwise`` says
    train      on what passed and what was labelled, by the negative log-likelihood

Only abstract, review and summary of the paper could be read. Which β, γ, number of rounds and of completions
it takes, and whether a round starts from the base model or from the one before, is not verified: all of them
are axes. What a round keeps is in :mod:`sweeps.spec.curation_rules`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal, get_args

from sweeps.spec.errors import choice, require

Procedure = Literal["none", "uncurated", "escaping_collapse"]
Start = Literal["previous", "base"]
Otherwise = Literal["nothing", "wrong"]

READS: dict[Procedure, tuple[str, ...]] = {
    "none": ("name",),
    "uncurated": ("name", "rounds", "completions", "prompts", "from_", "answer_pattern"),
}
"""Fields that a procedure reads, where those are not all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CurateSpec:
    """Rounds of training on the model's own completions, curated; ``curate=none`` trains without rounds."""

    name: Procedure = field(default="none", metadata={"omit_at": "none"})
    """``escaping_collapse``; ``uncurated``, the same rounds without filter and labeler: every completion is
    trained on; or ``none``.
    """
    rounds: int = field(default=5, metadata={"omit_at": 5})
    """Rounds T. Each takes an equal share of ``steps``, however much it keeps."""
    completions: int = field(default=1, metadata={"omit_at": 1})
    """Completions of each prompt in a round; those that pass are each trained on."""
    prompts: int = field(default=0, metadata={"omit_at": 0})
    """Prompts of a round, the next ones in the order of ``data.order``; 0 takes all rows of the set."""
    gamma: float = field(default=0.0, metadata={"omit_at": 0.0})
    """Probability γ that the filter's verdict on a completion is flipped, for right and wrong ones alike."""
    beta: float = field(default=0.0, metadata={"omit_at": 0.0})
    """Probability β that the labeler gives a failed prompt its right completion."""
    otherwise: Otherwise = field(default="nothing", metadata={"omit_at": "nothing"})
    """What it gives in all other cases: ``nothing``, so that the prompt is left out of the round; or
    ``wrong``, the right completion of another prompt that has another answer.
    """
    from_: Start = field(default="previous", metadata={"omit_at": "previous"})
    """Weights that each round's training starts from: those of the round ``previous``, or of the ``base``
    model. Which of the two the paper takes is not verified.
    """
    answer_pattern: str | None = field(default=None, metadata={"omit_at": None})
    """Regular expression whose last match's first group is a completion's answer; ``None`` lets math-verify
    find it.
    """

    def __post_init__(self) -> None:
        choice("curate.name", self.name, get_args(Procedure))
        choice("curate.otherwise", self.otherwise, get_args(Otherwise))
        choice("curate.from", self.from_, get_args(Start))
        for key in ("rounds", "completions"):
            require(getattr(self, key) >= 1, f"curate.{key}", getattr(self, key), "must be at least 1")
        require(self.prompts >= 0, "curate.prompts", self.prompts, "must be at least 0 (0 takes all rows)")
        for key in ("gamma", "beta"):
            require(0 <= getattr(self, key) <= 1, f"curate.{key}", getattr(self, key), "must lie in [0, 1]")
        for f in fields(self):
            value = getattr(self, f.name)
            require(
                f.name in READS.get(self.name, (f.name,)) or value == f.default,
                f"curate.{f.name.removesuffix('_')}",
                value,
                f"curate={self.name} does not read it; leave it out, or choose curate=escaping_collapse",
            )

    @property
    def is_on(self) -> bool:
        """Whether the run goes in rounds."""
        return self.name != "none"

    @property
    def num_rounds(self) -> int:
        """Rounds of a run; 1 for one that does not go in rounds."""
        return self.rounds if self.is_on else 1

    @property
    def labels(self) -> bool:
        """Whether right completions are read."""
        return self.beta > 0 or self.otherwise == "wrong"
