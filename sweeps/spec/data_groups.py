"""The groups of a run's configuration: one frozen dataclass per Hydra group, each field documented with its
unit.

A field declared by :func:`compute` says *how* or *where* a run is computed and stays outside ``run_id``;
every other field changes the science and is hashed; one marked ``science_at`` is hashed at that value only.
A field added in a later version carries ``omit_at``: at that value it is left out of the canonical form, so
an upgrade orphans no result.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from sweeps.spec.errors import choice, require
from sweeps.spec.metrics import metric_info

Adapter = Literal["none", "lora"]
PromptFormat = Literal["chat", "plain"]
SystemRole = Literal["system", "fold"]
GraderRule = Literal["math_verify", "relative"]
Retention = Literal["none", "last", "best", "all"]


def compute(default: Any, **metadata: Any) -> Any:
    """Declare a field that says how or where a run is computed and is therefore outside ``run_id``."""
    return field(default=default, metadata={"compute": True, **metadata})


def check_system_role(group: str, role: str, format: str) -> None:
    """Refuse a way of giving the system message that the format does not know."""
    choice(f"{group}.system_role", role, get_args(SystemRole))
    require(
        role == "system" or format == "chat",
        f"{group}.system_role",
        role,
        f"{group}.format=plain has no turns to fold into; put the text into {group}.template",
    )


def check_prompt_form(group: str, format: str, system_role: str, template: str) -> None:
    """Refuse a way of putting a text before a model that there is not."""
    choice(f"{group}.format", format, get_args(PromptFormat))
    check_system_role(group, system_role, format)
    require("{problem}" in template, f"{group}.template", template, "must contain {problem}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpec:
    """The base model a run starts from."""

    name: str = compute("")
    """Label used in tables and short names."""
    family: str = compute("")
    """Label of the architecture, for sweeps that compare families: an axis zipped with ``model``."""
    path: str = compute("")
    """Local folder, ``pkg://package/folder`` inside an installed package, or a hub id."""
    hub_id: str | None = None
    """Hub repository id; ``None`` for a local folder, whose identity is its ``digest``."""
    revision: str | None = None
    """Hub revision (branch, tag or commit), part of the identity of a hub model."""
    commit: str | None = compute(None)
    """Commit that ``revision`` stood for at the first launch (:mod:`sweeps.manifest.hub_commits`); never set
    by hand.
    """
    digest: str | None = None
    """SHA-256 over the local folder's config, tokenizer and weights; ``None`` for a hub model."""
    trust_remote_code: bool = False
    """Run Python code that the model folder ships. Off unless named for the model."""
    adapter: Adapter = "none"
    """``none`` trains every weight; ``lora`` low-rank additions to frozen ones (arXiv 2106.09685)."""
    adapter_rank: int = field(default=8, metadata={"omit_at": 8})
    """Rank r of ``lora``."""
    adapter_alpha: float = field(default=16.0, metadata={"omit_at": 16.0})
    """Scale of ``lora``: additions count alpha / r times."""
    adapter_targets: tuple[str, ...] = field(default=(), metadata={"omit_at": ()})
    """Last parts of the names of the linear layers that ``lora`` adds to, such as ``q_proj``; empty for all
    but the head.
    """

    def __post_init__(self) -> None:
        choice("model.adapter", self.adapter, get_args(Adapter))
        require(self.adapter_rank >= 1, "model.adapter_rank", self.adapter_rank, "must be at least 1")
        require(
            0 < self.adapter_alpha < math.inf,
            "model.adapter_alpha",
            self.adapter_alpha,
            "must be a number above 0",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ExampleSpec:
    """The unlabeled prompt, or prompts, that a run trains on."""

    name: str = compute("")
    """Label used in tables and short names."""
    path: str | None = compute(None)
    """File the prompts came from (JSON lines, CSV, Parquet; also ``.gz``); their text is what counts."""
    rows: tuple[int, ...] = compute(())
    """Zero-based rows of ``path`` used together in one run."""
    ids: tuple[str, ...] = compute(())
    """Rows of ``path`` by their ``id`` instead, so that a reordered file means the same."""
    text_field: str = compute("problem")
    """Column of ``path`` that holds the prompt: text, or a list of chat messages."""
    answer_field: str | None = compute(None)
    """Column of ``path`` that holds the gold answer, for objectives that need a label."""
    prompts: tuple[str, ...] = ()
    """The prompt texts themselves, before the template."""
    answers: tuple[str | None, ...] = ()
    """Gold answers beside ``prompts``; empty for unlabeled examples."""
    system: str | None = None
    """System message put before the prompt when ``format`` is ``chat``."""
    system_role: SystemRole = field(default="system", metadata={"omit_at": "system"})
    """``fold`` puts the system message into the user's turn, for templates that refuse a turn of its own."""
    template: str = "{problem}"
    """Text around the prompt; ``{problem}`` is replaced by it."""
    format: PromptFormat = "chat"
    """``chat`` renders the tokenizer's chat template; ``plain`` feeds the text as it is."""
    rule: str = field(default="", metadata={"omit_at": ""})
    """Rule that picked the prompts, as ``emsweep select`` labels it. Part of the identity: two rules that
    pick the same prompt keep a run each, so that a table can compare them.
    """

    def __post_init__(self) -> None:
        check_prompt_form("example", self.format, self.system_role, self.template)


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalSpec:
    """How the model is judged, before, during and after training."""

    name: str = compute("")
    """Label of the benchmark in tables."""
    path: str | None = compute(None)
    """File of rows (JSON lines, CSV, Parquet; also ``.gz``), or ``pkg://package/file`` inside an installed
    package; ``None`` evaluates nothing.
    """
    digest: str | None = None
    """SHA-256 of the file's bytes."""
    limit: int = 0
    """Items used, from the top; 0 uses all."""
    drop_items: tuple[int, ...] = field(default=(), metadata={"omit_at": ()})
    """Items left out, by their number in the file from 1: those whose gold answer is damaged."""
    question_field: str = "problem"
    """Field that holds the question: text, or a list of chat messages."""
    answer_field: str = "answer"
    """Field that holds the gold answer: text, a number, or a list of one."""
    system: str | None = None
    """System message put before the question when ``format`` is ``chat``."""
    system_role: SystemRole = field(default="system", metadata={"omit_at": "system"})
    """``fold`` puts the system message into the user's turn, for templates that refuse a turn of its own."""
    template: str = "{problem}"
    """Text around the question; ``{problem}`` is replaced by it."""
    format: PromptFormat = "chat"
    """``chat`` renders the tokenizer's chat template; ``plain`` feeds the text as it is."""
    pattern: str | None = None
    """Regular expression whose last match's first group is the answer; ``None`` takes the last box, as in
    ``\\boxed{7}``.
    """
    grader: GraderRule = field(default="math_verify", metadata={"omit_at": "math_verify"})
    """When two answers are equal: ``math_verify`` as mathematics; ``relative`` also numbers within 1e-4 of
    the gold and its percent forms, as the benchmarks' own grader has it, for comparison with published
    columns.
    """
    steps: tuple[int, ...] = (0, 10)
    """Optimizer steps after which to evaluate; steps past the end are dropped, the last step is always
    judged.
    """
    greedy: bool = True
    """Judge one greedy completion per item."""
    temperatures: tuple[float, ...] = (1.0,)
    """Sampling temperatures, each judged by ``num_samples`` completions per item."""
    num_samples: int = 1
    """Sampled completions per item and temperature."""
    top_p: float = 1.0
    """Nucleus mass kept in sampled evaluation."""
    max_new_tokens: int = 3072
    """Longest completion, in tokens."""
    logit_stats: bool = False
    """Also record moments and a histogram of raw logits, of the base and the tuned model."""
    em_inf_steps: int = field(default=0, metadata={"omit_at": 0})
    """Gradient steps that lower the entropy of each next-token distribution before a token is drawn (EM-INF,
    :mod:`trainers.decoding.em_inf`), training nothing; 0 takes none, the published scripts 3.
    """
    em_inf_threshold: float = field(default=0.3, metadata={"omit_at": 0.3})
    """Entropy in nats below which a distribution is left alone."""
    em_inf_kl: float = field(default=0.05, metadata={"omit_at": 0.05})
    """Weight of the divergence from the model's own distribution."""
    em_inf_lr: float = field(default=0.1, metadata={"omit_at": 0.1})
    """Learning rate of those steps."""
    timeout_s: float = compute(5.0)
    """Seconds the grader may take for one answer; past that the answer counts as wrong."""
    batch_items: int = compute(512)
    """Rows decoded together; fewer where they do not fit memory (``engine.eval_rows``)."""

    def __post_init__(self) -> None:
        check_prompt_form("eval", self.format, self.system_role, self.template)
        choice("eval.grader", self.grader, get_args(GraderRule))
        require(all(s >= 0 for s in self.steps), "eval.steps", self.steps, "every step must be at least 0")
        require(
            all(0 < t < math.inf for t in self.temperatures),
            "eval.temperatures",
            self.temperatures,
            "each above 0",
        )
        for key in ("num_samples", "max_new_tokens", "batch_items"):
            require(getattr(self, key) >= 1, f"eval.{key}", getattr(self, key), "must be at least 1")
        for key in ("em_inf_steps", "em_inf_threshold", "em_inf_kl", "em_inf_lr"):
            require(
                0 <= getattr(self, key) < math.inf, f"eval.{key}", getattr(self, key), "must be at least 0"
            )
        require(self.limit >= 0, "eval.limit", self.limit, "must be at least 0 (0 uses all)")
        require(0 < self.top_p <= 1, "eval.top_p", self.top_p, "must lie in (0, 1]")

    @property
    def completions_per_item(self) -> int:
        """Greedy and sampled ones together."""
        return int(self.greedy) + len(self.temperatures) * self.num_samples


@dataclass(frozen=True, kw_only=True, slots=True)
class ResourcesSpec:
    """What one run occupies while it runs. None of it changes the science."""

    world_size: int = compute(1)
    """Processes that form the run's DeepSpeed world."""
    gpus_per_worker: float = compute(0.0)
    """GPUs per process; a fraction shares one GPU between several."""
    cpus_per_worker: float = compute(1.0)
    """CPU cores per process."""
    memory_gib: float = compute(0.0)
    """Host memory per process in GiB; 0 asks for none in particular."""
    timeout_s: float = compute(0.0)
    """Longest wall time of one attempt in seconds; 0 sets no limit."""
    keep_checkpoints: Retention = field(default="none", metadata={"compute": True})
    """Retention policy of weights: ``none``, ``last``, ``best`` (the sweep's best ``keep_best_k`` runs) or
    ``all`` evaluated steps.
    """
    keep_best_k: int = compute(1)
    """Runs whose weights ``best`` keeps."""
    keep_best_metric: str = compute("accuracy_sampled")
    """Metric by which ``best`` ranks runs, highest first."""
    save_every_steps: int = compute(0)
    """Optimizer steps between training states from which a killed run resumes; 0 starts it again. A state is
    saved only where the next step draws rollouts of its own.
    """

    def __post_init__(self) -> None:
        require(self.world_size >= 1, "resources.world_size", self.world_size, "must be at least 1")
        for key in ("gpus_per_worker", "cpus_per_worker", "memory_gib", "timeout_s"):
            require(getattr(self, key) >= 0, f"resources.{key}", getattr(self, key), "must be at least 0")
        gpus = self.gpus_per_worker
        require(gpus <= 1 or gpus == int(gpus), "resources.gpus_per_worker", gpus, "above 1 must be whole")
        choice("resources.keep_checkpoints", self.keep_checkpoints, get_args(Retention))
        for key in ("keep_best_k", "save_every_steps"):
            require(getattr(self, key) >= 0, f"resources.{key}", getattr(self, key), "must be at least 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class InitSpec:
    """The earlier run that training starts from, where that is not the base model.

    Filled in by :mod:`sweeps.manifest.lineage` from the top-level key ``init_from``. The identity holds the
    earlier runs' ids in the place of these fields.
    """

    changes: Mapping[str, Any] = field(default_factory=dict, metadata={"omit_at": {}})
    """An earlier run of the same sweep, by what differs in it: group, ``steps`` or ``seed`` to its value. It
    is trained again as the first phase of this run, shared with all runs that have it in common.
    """
    runs: tuple[str, ...] = field(default=(), metadata={"omit_at": ()})
    """Ids of runs of other sweeps, whose kept weights are used."""
    folders: tuple[str, ...] = compute(())
    """Where those weights lie, a folder for each of ``runs``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainerSpec:
    """The code that turns a spec into a result."""

    target: str = "trainers.em.EntropyMinimization"
    """Import path of a class that satisfies :class:`trainers.protocol.Trainer`, or with a colon of a function
    (``train:train``, :mod:`trainers.function`).
    """
    params: Mapping[str, Any] = field(default_factory=dict)
    """Free parameters of an own trainer; JSON values only."""
    command: tuple[str, ...] = field(default=(), metadata={"omit_at": ()})
    """Words of the command that is a run (:mod:`trainers.command`), with ``{optim.lr}`` for a value of it."""
    patterns: Mapping[str, str] = field(default_factory=dict, metadata={"omit_at": {}})
    """Metrics that a command prints: name to a regular expression whose first group is the value."""
    metrics_from: tuple[str, ...] = compute(())
    """Where a command's metrics are read besides what it reports and prints: ``jsonl:FILE``, ``json:FILE``,
    ``wandb``, ``tensorboard:FOLDER``, each below its output folder.
    """
    digest: str = field(default="", metadata={"omit_at": ""})
    """SHA-256 of the function's file or the command's script; filled in when runs are asked for."""
    folder: str = compute("")
    """Folder in which that file was found."""
    metrics: Mapping[str, Any] = field(default_factory=dict, metadata={"compute": True})
    """What its metrics are, by name: direction, unit, range (:mod:`sweeps.spec.metrics`); tables are about
    the first.
    """

    @property
    def computes_model(self) -> bool:
        """Whether it trains or merges the run's language model: its work is rollouts, steps and judged
        completions. What any other trainer does with a run is its own affair.
        """
        return self.target.startswith(("trainers.em.", "trainers.merging.", "trainers.merge."))

    @property
    def label(self) -> str:
        """What it is called for people: its target, or the first words of its command."""
        return " ".join(self.command[:2]) if self.command else self.target

    def __post_init__(self) -> None:
        for name, written in self.metrics.items():
            metric_info(name, written)
