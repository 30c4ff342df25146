"""The group ``data``: a training set that a run walks over, some of its prompts at each optimizer step.

Instead of ``example``, a set of which every step uses all. Written as :mod:`sweeps.spec.data_groups` says.
The identity holds the content that is used (``digest``), never where it lies: rows that are not chosen,
columns that are not read and the form of the file change no run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from sweeps.spec.data_groups import PromptFormat, SystemRole, check_prompt_form, compute
from sweeps.spec.errors import choice, require
from sweeps.spec.objective_names import Targets
from sweeps.spec.train_groups import Overlong

LimitBy = Literal["file", "content"]
Order = Literal["shuffle", "file", "easy_to_hard", "hard_to_easy", "cyclic"]

BY_DIFFICULTY: tuple[Order, ...] = ("easy_to_hard", "hard_to_easy")
"""Orders that say nothing without a difficulty."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSpec:
    """The training set that a run walks over, step by step; without ``path`` it trains on ``example``."""

    name: str = compute("")
    """Label used in tables and short names."""
    path: str | None = compute(None)
    """File of rows (JSON lines, CSV, Parquet; also ``.gz``), a folder of such files or one that ``datasets``
    wrote with ``save_to_disk``, the id of a data set in the hub's cache, or ``pkg://package/file`` inside an
    installed package; ``None`` trains on ``example``.
    """
    mix: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False, metadata={"compute": True})
    """Several sets instead of ``path``: a name to what each has, its ``path``, ``weight`` and keys of its own
    (:mod:`sweeps.spec.mix`). Prompts are taken from them in proportion to the weights, each set being walked
    over in its own order. ``digest`` is then that of all of them and their weights.
    """
    config: str = compute("")
    """Configuration of a folder or hub id whose ``README.md`` names several."""
    split: str = compute("")
    """Split of a folder or hub id; empty for the only one, or ``train``."""
    revision: str | None = compute(None)
    """Branch, tag or commit of a hub id; ``None`` for ``main``."""
    hub_id: str | None = compute(None)
    """The hub id that ``path`` is; filled in when the sweep is composed."""
    commit: str | None = compute(None)
    """Commit that ``revision`` stood for then, from which workers read; filled in when the sweep is composed.
    """
    digest: str = field(default="", metadata={"omit_at": ""})
    """SHA-256 of the rows that are used, in their order: prompts, answers, difficulties where ``order`` reads
    them, completions where the objective does; filled in when the sweep is composed.
    """
    num_rows: int = compute(0)
    """Rows that are used; filled in when the sweep is composed."""
    has_answers: bool = compute(False)
    """Whether each of them has a right answer; filled in when the sweep is composed."""
    prompt_field: str = compute("")
    """Column of the prompt: text, or a list of chat messages, whose last answer is left out. Empty for the
    first of ``prompt``, ``messages``, ``problem``, ``question`` that the first row has.
    """
    answer_field: str | None = compute("")
    """Column of the right answer, for objectives that need one; of GSM8K's text, what follows ``####``. Empty
    for the first of ``reward_model.ground_truth``, ``answer`` that the first row has, ``null`` for none.
    """
    completion_field: str = compute("")
    """Column of the completion to train on: text, or the chat messages after the prompt. Empty for the chat
    messages of the prompt's column, of which every answer is one, or the first of ``completion``,
    ``solution``, ``answer`` that the first row has. Read, as the four below, by objectives that train on it
    only.
    """
    chosen_field: str = compute("")
    """Column of the better completion of a pair; empty for ``chosen``."""
    rejected_field: str = compute("")
    """Column of the worse one; empty for ``rejected``. Without a column of prompts, what both begin with is
    the prompt.
    """
    desirable_field: str = compute("")
    """Column that tells whether a completion is desirable, true or false; empty for ``label``."""
    targets: Targets = field(default="", metadata={"compute": True})
    """What is read of them; filled in by what the objective needs."""
    max_tokens: int = field(default=4096, metadata={"omit_at": 4096})
    """Longest prompt with its given completion, in tokens."""
    overlong: Overlong = field(default="refuse", metadata={"omit_at": "refuse"})
    """What becomes of longer ones: ``refuse``, or ``truncate``, which drops their end."""
    difficulty_field: str = compute("")
    """Column of a number that is larger for harder prompts; with a minus before it
    (``-pass_rate``), smaller.
    """
    limit: int = compute(0)
    """Rows used, from the top of the file unless ``limit_by`` says otherwise; 0 uses all."""
    limit_by: LimitBy = field(default="file", metadata={"compute": True})
    """``content`` takes the rows whose hashes, by content and ``subset_seed``, are the smallest: a draw that
    outlives another order of the file, and in which a larger limit keeps the rows of a smaller one.
    """
    subset: float = compute(1.0)
    """Share of those rows that is used, chosen by a hash of their content, so that the choice outlives
    another order of the file.
    """
    subset_seed: int = compute(0)
    """Which subset, or which rows of a limit by content: another number chooses others."""
    order: Order = field(default="shuffle", metadata={"omit_at": "shuffle"})
    """How an epoch goes through the rows: ``shuffle`` by the run's seed, anew each epoch; ``file``;
    ``easy_to_hard`` or ``hard_to_easy`` by ``difficulty_field``; ``cyclic``, passes over a quarter, a half,
    all, a half of the rows and so on (arXiv 2202.05531), easy rows being the likelier ones to be drawn.
    """
    prompts_per_step: int = field(default=1, metadata={"omit_at": 1})
    """Prompts whose rollouts, or rows whose given completions, an optimizer step trains on.
    ``sampling.num_rollouts`` counts those of all prompts together. The rows of a step may belong to two
    epochs.
    """
    system: str | None = field(default=None, metadata={"omit_at": None})
    """System message put before prompts that have none when ``format`` is ``chat``."""
    system_role: SystemRole = field(default="system", metadata={"omit_at": "system"})
    """``fold`` puts the system message into the user's turn, for templates that refuse a turn of its own."""
    template: str = field(default="{problem}", metadata={"omit_at": "{problem}"})
    """Text around a prompt; ``{problem}`` is replaced by it."""
    format: PromptFormat = field(default="chat", metadata={"omit_at": "chat"})
    """``chat`` renders the tokenizer's chat template; ``plain`` feeds the text as it is."""

    def __post_init__(self) -> None:
        choice("data.order", self.order, get_args(Order))
        choice("data.limit_by", self.limit_by, get_args(LimitBy))
        check_prompt_form("data", self.format, self.system_role, self.template)
        for key in ("limit", "subset_seed", "num_rows"):
            require(getattr(self, key) >= 0, f"data.{key}", getattr(self, key), "must be at least 0")
        require(
            self.targets in get_args(Targets),
            "data.targets",
            self.targets,
            "is filled in when a sweep is composed; leave it out",
        )
        choice("data.overlong", self.overlong, get_args(Overlong))
        require(self.max_tokens >= 2, "data.max_tokens", self.max_tokens, "must be at least 2")
        require(0 < self.subset <= 1, "data.subset", self.subset, "must be a share above 0, at most 1")
        require(
            self.prompts_per_step >= 1, "data.prompts_per_step", self.prompts_per_step, "must be at least 1"
        )
        require(
            self.order not in BY_DIFFICULTY or bool(self.difficulty_field) or self.path is None,
            "data.order",
            self.order,
            "needs a difficulty; name its column with data.difficulty_field",
        )

    @property
    def is_set(self) -> bool:
        """Whether the run walks over a training set."""
        return self.path is not None or bool(self.mix)

    @property
    def reads_difficulty(self) -> bool:
        """Whether the order depends on how hard each row is."""
        return bool(self.difficulty_field) and self.order in (*BY_DIFFICULTY, "cyclic")

    @property
    def label(self) -> str:
        return self.name or str(self.path)


def batch_number(step: int, iterations: int) -> int:
    """The batch that optimizer step ``step``, from 1, trains on; ``iterations`` steps take the same one."""
    return (step - 1) // iterations


def steps_of_epochs(data: DataSpec, epochs: float, iterations: int) -> int:
    """Optimizer steps until so many times as many prompts as the set has rows have been taken."""
    prompts = epochs * data.num_rows
    return max(1, -int(-prompts // data.prompts_per_step)) * iterations
