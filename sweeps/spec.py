"""A run's configuration, frozen, and the identity derived from it.

Each Hydra group is one dataclass below; :class:`RunSpec` holds one of each. A field marked :func:`_compute`
says *how* or *where* a run is computed and stays outside ``run_id``; every other field changes the science
and is hashed; one marked ``science_at`` does so at that value only. A field added in a later version
carries ``omit_at``: at that value it is left out of the canonical form, so an upgrade orphans no result.

Standard library only: the planner and the notebook import this module without Hydra or torch.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

RUN_ID_LENGTH = 32
"""Hex digits of SHA-256 kept: 128 bits, so two of 10⁹ runs collide with probability below 10⁻²⁰."""


class SpecError(ValueError):
    """A configuration that cannot be run; the message says the value, the rule and the fix."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `` (did you mean "x"?)`` for the closest of ``known``, or an empty string."""
    close = difflib.get_close_matches(word, list(dict.fromkeys(known)), n=3, cutoff=0.5)
    return f" (did you mean {' or '.join(json.dumps(c) for c in close)}?)" if close else ""


def _compute(default: Any, **metadata: Any) -> Any:
    """Declare a field that says how or where a run is computed and is therefore outside ``run_id``."""
    return field(default=default, metadata={"compute": True, **metadata})


def _require(ok: bool, key: str, value: object, rule: str) -> None:
    if not ok:
        raise SpecError(f"{key}={value!r}: {rule}")


def _choice(key: str, value: str, known: Iterable[str]) -> None:
    known = tuple(known)
    _require(value in known, key, value, f"choose one of {', '.join(known)}{nearest(value, known)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpec:
    """The base model a run starts from."""

    name: str = _compute("")
    """Label used in tables and short names."""
    path: str = _compute("")
    """Local folder, ``pkg://package/folder`` inside an installed package, or a hub id."""
    hub_id: str | None = None
    """Hub repository id; ``None`` for a local folder, whose identity is its ``digest``."""
    revision: str | None = None
    """Hub revision (branch, tag or commit), part of the identity of a hub model."""
    commit: str | None = _compute(None)
    """Commit that ``revision`` stood for at the first launch (:mod:`sweeps.pins`); never set by hand."""
    digest: str | None = None
    """SHA-256 over the local folder's config, tokenizer and weights; ``None`` for a hub model."""
    trust_remote_code: bool = False
    """Run Python code that the model folder ships. Off unless named for the model."""
    adapter: str = "none"
    """``none`` trains every weight."""

    def __post_init__(self) -> None:
        _choice("model.adapter", self.adapter, ("none",))


@dataclass(frozen=True, kw_only=True, slots=True)
class ExampleSpec:
    """The unlabeled prompt, or prompts, that a run trains on."""

    name: str = _compute("")
    """Label used in tables and short names."""
    path: str | None = _compute(None)
    """File the prompts came from (JSON lines or Parquet); their text is what counts."""
    rows: tuple[int, ...] = _compute(())
    """Zero-based rows of ``path`` used together in one run."""
    ids: tuple[str, ...] = _compute(())
    """Rows of ``path`` by their ``id`` instead, so that a reordered file means the same."""
    text_field: str = _compute("problem")
    """Column of ``path`` that holds the prompt: text, or a list of chat messages."""
    answer_field: str | None = _compute(None)
    """Column of ``path`` that holds the gold answer, for objectives that need a label."""
    prompts: tuple[str, ...] = ()
    """The prompt texts themselves, before the template."""
    answers: tuple[str | None, ...] = ()
    """Gold answers beside ``prompts``; empty for unlabeled examples."""
    system: str | None = None
    """System message put before the prompt when ``format`` is ``chat``."""
    template: str = "{problem}"
    """Text around the prompt; ``{problem}`` is replaced by it."""
    format: str = "chat"
    """``chat`` renders the tokenizer's chat template; ``plain`` feeds the text as it is."""

    def __post_init__(self) -> None:
        _choice("example.format", self.format, ("chat", "plain"))
        _require("{problem}" in self.template, "example.template", self.template, "must contain {problem}")


COMPAT_DEFECTS = ("micro_steps", "shared_noise", "padded_lengths", "unshifted_mask", "eos_as_padding")
"""Defects of the published trainer that ``objective.compat`` can reproduce; :mod:`trainers.compat` explains
each.
"""

_COMPAT_WORDS = ("exact", "upstream", *COMPAT_DEFECTS)


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectiveSpec:
    """What an optimizer step lowers."""

    name: str = "em"
    """``em``: token-mean entropy of the model's own rollouts (arXiv 2505.20282)."""
    temperature: float = 0.5
    """Training temperature τ dividing the logits inside the entropy."""
    compat: str = "exact"
    """``exact``; ``upstream`` for all :data:`COMPAT_DEFECTS`; or some of them joined by ``+``."""

    def __post_init__(self) -> None:
        _choice("objective.name", self.name, ("em",))
        for name in self.compat.split("+"):
            _choice("objective.compat", name, COMPAT_DEFECTS if "+" in self.compat else _COMPAT_WORDS)
        _require(
            0 < self.temperature < math.inf,
            "objective.temperature",
            self.temperature,
            "must be a number above 0",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimSpec:
    """The optimizer."""

    name: str = "adamw"
    """``adamw``, decoupled weight decay."""
    lr: float = 2e-5
    """Peak learning rate, multiplied by the schedule."""
    beta1: float = 0.9
    """Decay of the first moment."""
    beta2: float = 0.999
    """Decay of the second moment."""
    eps: float = 1e-8
    """Term added to the denominator."""
    weight_decay: float = 0.01
    """Decoupled weight decay."""
    grad_clip: float = 1.0
    """Largest global gradient norm; 0 turns clipping off."""

    def __post_init__(self) -> None:
        _choice("optim.name", self.name, ("adamw",))
        _require(0 < self.lr < math.inf, "optim.lr", self.lr, "must be a number above 0, such as 2e-5")
        for key in ("beta1", "beta2"):
            _require(0 <= getattr(self, key) < 1, f"optim.{key}", getattr(self, key), "must lie in [0, 1)")
        _require(self.eps > 0, "optim.eps", self.eps, "must be above 0")
        _require(self.weight_decay >= 0, "optim.weight_decay", self.weight_decay, "must be at least 0")
        _require(
            self.grad_clip >= 0,
            "optim.grad_clip",
            self.grad_clip,
            "must be at least 0 (0 turns clipping off)",
        )


SCHEDULES = ("constant", "linear", "cosine", "inverse_sqrt", "wsd", "rex")
"""Names of :mod:`sweeps.schedules`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleSpec:
    """Multiplier of the peak learning rate at each step; see :mod:`sweeps.schedules`."""

    name: str = "constant"
    """Name of the schedule."""
    warmup_steps: int = 0
    """Steps of linear warmup, step s using (s+1)/warmup_steps so that no step is wasted at zero."""
    min_ratio: float = field(default=0.0, metadata={"omit_at": 0.0})
    """Multiplier that ``cosine`` approaches."""
    decay_fraction: float = field(default=0.2, metadata={"omit_at": 0.2})
    """Share of the steps over which ``wsd`` decays, at the end; at least one step does."""
    decay_shape: str = field(default="linear", metadata={"omit_at": "linear"})
    """How ``wsd`` decays: ``linear`` or ``sqrt``."""

    def __post_init__(self) -> None:
        _choice("schedule.name", self.name, SCHEDULES)
        _require(self.warmup_steps >= 0, "schedule.warmup_steps", self.warmup_steps, "must be at least 0")
        _require(0 <= self.min_ratio <= 1, "schedule.min_ratio", self.min_ratio, "must lie in [0, 1]")
        _require(
            0 < self.decay_fraction <= 1, "schedule.decay_fraction", self.decay_fraction, "must lie in (0, 1]"
        )
        _choice("schedule.decay_shape", self.decay_shape, ("linear", "sqrt"))


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingSpec:
    """How rollouts are drawn."""

    num_rollouts: int = 64
    """Rollouts per optimizer step, over all prompts, micro batches and ranks together."""
    temperature: float = 0.5
    """Sampling temperature."""
    top_p: float = 0.95
    """Nucleus mass kept; 1 keeps all."""
    top_k: int = 0
    """Most likely tokens kept; 0 keeps all."""
    repetition_penalty: float = 1.15
    """Penalty of tokens already seen (arXiv 1909.05858); 1 is none."""
    max_new_tokens: int = 512
    """Longest completion, in tokens."""
    max_prompt_tokens: int = 2048
    """Longest prompt, in tokens."""
    overlong: str = "refuse"
    """What to do with a longer prompt: ``refuse``, or ``truncate`` its beginning."""

    def __post_init__(self) -> None:
        for key in ("num_rollouts", "max_new_tokens", "max_prompt_tokens"):
            _require(getattr(self, key) >= 1, f"sampling.{key}", getattr(self, key), "must be at least 1")
        _require(0 < self.temperature < math.inf, "sampling.temperature", self.temperature, "must be above 0")
        _require(0 < self.top_p <= 1, "sampling.top_p", self.top_p, "must lie in (0, 1]")
        _require(self.top_k >= 0, "sampling.top_k", self.top_k, "must be at least 0 (0 keeps all)")
        _require(
            self.repetition_penalty > 0,
            "sampling.repetition_penalty",
            self.repetition_penalty,
            "must be above 0",
        )
        _choice("sampling.overlong", self.overlong, ("refuse", "truncate"))


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineSpec:
    """The DeepSpeed engine. Only ``precision`` changes the science; the rest is layout."""

    precision: str = "fp32"
    """``fp32``, ``bf16`` or ``fp16`` (the last with dynamic loss scaling)."""
    zero_stage: int = _compute(0)
    """ZeRO stage, 0 to 3."""
    micro_batch: int = _compute(0)
    """Distinct rollouts per forward and rank; 0 takes all of them at once."""
    offload: bool = _compute(False)
    """Keep optimizer state in host memory (ZeRO-2 and 3)."""
    gradient_checkpointing: bool = _compute(False)
    """Recompute activations in the backward pass to save memory."""
    decoder: str = _compute("auto", science_at="vllm")
    """``tree`` (short completions), ``cached`` (KV cache), ``vllm``, or ``auto``. Only ``vllm`` draws other
    rollouts and is therefore part of the identity.
    """
    attention: str = _compute("sdpa")
    """Attention implementation given to transformers."""
    max_hot_engines: int = _compute(4)
    """Engines a worker keeps; the least recently used goes first."""

    def __post_init__(self) -> None:
        _choice("engine.precision", self.precision, ("fp32", "bf16", "fp16"))
        _require(
            self.zero_stage in (0, 1, 2, 3), "engine.zero_stage", self.zero_stage, "must be 0, 1, 2 or 3"
        )
        _require(
            self.micro_batch >= 0, "engine.micro_batch", self.micro_batch, "must be at least 0 (0 takes all)"
        )
        _require(
            self.precision == "fp32" or self.zero_stage >= 1,
            "engine.precision",
            self.precision,
            "needs engine.zero_stage 1, 2 or 3, which keep fp32 master weights",
        )
        _require(
            not self.offload or self.zero_stage >= 2,
            "engine.offload",
            self.offload,
            "needs engine.zero_stage 2 or 3",
        )
        _choice("engine.decoder", self.decoder, ("auto", "tree", "cached", "vllm"))
        _require(
            self.max_hot_engines >= 1, "engine.max_hot_engines", self.max_hot_engines, "must be at least 1"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalSpec:
    """How the model is judged, before, during and after training."""

    name: str = _compute("")
    """Label of the benchmark in tables."""
    path: str | None = _compute(None)
    """JSON lines file, or ``pkg://package/file`` inside an installed package; ``None`` evaluates nothing."""
    digest: str | None = None
    """SHA-256 of the file's bytes."""
    limit: int = 0
    """Items used, from the top; 0 uses all."""
    question_field: str = "problem"
    """Field that holds the question."""
    answer_field: str = "answer"
    """Field that holds the gold answer."""
    system: str | None = None
    """System message put before the question when ``format`` is ``chat``."""
    template: str = "{problem}"
    """Text around the question; ``{problem}`` is replaced by it."""
    format: str = "chat"
    """``chat`` renders the tokenizer's chat template; ``plain`` feeds the text as it is."""
    pattern: str | None = None
    """Regular expression whose last match's first group is the answer; ``None`` lets math-verify find it."""
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
    timeout_s: float = _compute(5.0)
    """Seconds the grader may take for one answer; past that the answer counts as wrong."""
    batch_items: int = _compute(512)
    """Rows decoded together."""

    def __post_init__(self) -> None:
        _choice("eval.format", self.format, ("chat", "plain"))
        _require("{problem}" in self.template, "eval.template", self.template, "must contain {problem}")
        _require(all(s >= 0 for s in self.steps), "eval.steps", self.steps, "every step must be at least 0")
        _require(
            all(0 < t < math.inf for t in self.temperatures),
            "eval.temperatures",
            self.temperatures,
            "each above 0",
        )
        for key in ("num_samples", "max_new_tokens", "batch_items"):
            _require(getattr(self, key) >= 1, f"eval.{key}", getattr(self, key), "must be at least 1")
        _require(self.limit >= 0, "eval.limit", self.limit, "must be at least 0 (0 uses all)")
        _require(0 < self.top_p <= 1, "eval.top_p", self.top_p, "must lie in (0, 1]")


@dataclass(frozen=True, kw_only=True, slots=True)
class ResourcesSpec:
    """What one run occupies while it runs. None of it changes the science."""

    world_size: int = _compute(1)
    """Processes that form the run's DeepSpeed world."""
    gpus_per_worker: float = _compute(0.0)
    """GPUs per process; a fraction shares one GPU between several."""
    cpus_per_worker: float = _compute(1.0)
    """CPU cores per process."""
    memory_gib: float = _compute(0.0)
    """Host memory per process in GiB; 0 asks for none in particular."""
    timeout_s: float = _compute(0.0)
    """Longest wall time of one attempt in seconds; 0 sets no limit."""
    keep_checkpoints: str = _compute("none")
    """Retention policy of weights: ``none``, ``last``, ``best`` (the sweep's best ``keep_best_k`` runs) or
    ``all`` evaluated steps.
    """
    keep_best_k: int = _compute(1)
    """Runs whose weights ``best`` keeps."""
    keep_best_metric: str = _compute("accuracy_sampled")
    """Metric by which ``best`` ranks runs, highest first."""
    save_every_steps: int = _compute(0)
    """Optimizer steps between training states from which a killed run resumes; 0 starts it again."""

    def __post_init__(self) -> None:
        _require(self.world_size >= 1, "resources.world_size", self.world_size, "must be at least 1")
        for key in ("gpus_per_worker", "cpus_per_worker", "memory_gib", "timeout_s"):
            _require(getattr(self, key) >= 0, f"resources.{key}", getattr(self, key), "must be at least 0")
        _choice("resources.keep_checkpoints", self.keep_checkpoints, ("none", "last", "best", "all"))
        for key in ("keep_best_k", "save_every_steps"):
            _require(getattr(self, key) >= 0, f"resources.{key}", getattr(self, key), "must be at least 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainerSpec:
    """The code that turns a spec into a result."""

    target: str = "trainers.em.EntropyMinimization"
    """Import path of a class that satisfies :class:`trainers.protocol.Trainer`."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Free parameters of an own trainer; JSON values only."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSpec:
    """One run, complete: nothing outside it is needed to compute the result."""

    trainer: TrainerSpec = field(default_factory=TrainerSpec)
    model: ModelSpec = field(default_factory=ModelSpec)
    example: ExampleSpec = field(default_factory=ExampleSpec)
    objective: ObjectiveSpec = field(default_factory=ObjectiveSpec)
    optim: OptimSpec = field(default_factory=OptimSpec)
    schedule: ScheduleSpec = field(default_factory=ScheduleSpec)
    sampling: SamplingSpec = field(default_factory=SamplingSpec)
    engine: EngineSpec = field(default_factory=EngineSpec)
    eval: EvalSpec = field(default_factory=EvalSpec)
    resources: ResourcesSpec = field(default_factory=ResourcesSpec)
    steps: int = 10
    """Optimizer steps. A step is one update of the weights, whatever the micro batch or world size."""
    seed: int = 0
    """Keys every random draw of the run."""

    def __post_init__(self) -> None:
        _require(self.steps >= 1, "steps", self.steps, "must be at least 1")
        _require(0 <= self.seed < 2**63, "seed", self.seed, "must lie in [0, 2^63)")

    @property
    def run_id(self) -> str:
        """First 32 hex digits of SHA-256 over the canonical science part."""
        return run_id_of(self)

    @property
    def eval_steps(self) -> tuple[int, ...]:
        """Steps at which the run is evaluated, ascending; empty when there is no benchmark."""
        if self.eval.path is None:
            return ()
        return tuple(sorted({s for s in self.eval.steps if s <= self.steps} | {self.steps}))


GROUPS: tuple[str, ...] = tuple(
    f.name for f in dataclasses.fields(RunSpec) if f.name not in ("steps", "seed")
)
"""Names of the spec's groups, in the order of :class:`RunSpec`."""


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def group_type(name: str) -> type:
    """Return the dataclass of the group ``name``."""
    return _hints(RunSpec)[name]


def known_keys() -> list[str]:
    """Every dotted key of a spec, such as ``optim.lr``."""
    keys = [f"{g}.{f.name}" for g in GROUPS for f in dataclasses.fields(group_type(g))]
    return [*keys, "steps", "seed"]


def spec_from_dict(data: Mapping[str, Any]) -> RunSpec:
    """Build a spec from nested plain data, refusing unknown keys and wrong types.

    Raises:
        SpecError: for an unknown key (with the nearest known ones), a wrong type or a value out of range.
    """
    unknown = [k for k in data if k not in (*GROUPS, "steps", "seed")]
    if unknown:
        raise SpecError(f"unknown key {unknown[0]!r}{nearest(unknown[0], (*GROUPS, 'steps', 'seed'))}")
    parts: dict[str, Any] = {g: group_from_dict(g, data[g]) for g in GROUPS if g in data}
    for key in ("steps", "seed"):
        if key in data:
            parts[key] = _coerce(key, data[key], int)
    return RunSpec(**parts)


def group_from_dict(group: str, data: Mapping[str, Any]) -> Any:
    """Build one group's dataclass from plain data; raises as :func:`spec_from_dict` does."""
    kind = group_type(group)
    hints = _hints(kind)
    for key in data:
        if key not in hints:
            raise SpecError(f"unknown key {f'{group}.{key}'!r}{nearest(f'{group}.{key}', known_keys())}")
    return kind(**{k: _coerce(f"{group}.{k}", v, hints[k]) for k, v in data.items()})


def coerce_key(key: str, value: Any) -> Any:
    """Return ``value`` as the dotted ``key`` holds it; raises as :func:`spec_from_dict` does.

    Free parameters below ``trainer.params`` are returned as they are.
    """
    if key in ("steps", "seed"):
        return _coerce(key, value, int)
    group, _, name = key.partition(".")
    hints = _hints(group_type(group)) if group in GROUPS else {}
    if name in hints:
        return _coerce(key, value, hints[name])
    if group in GROUPS and name.partition(".")[0] in _free_fields(group):
        return value
    raise SpecError(f"unknown key {key!r}{nearest(key, known_keys())}")


def _free_fields(group: str) -> list[str]:
    hints = _hints(group_type(group))
    return [k for k, h in hints.items() if typing.get_origin(h) in (Mapping, dict)]


def _coerce(key: str, value: Any, hint: Any) -> Any:
    """Return ``value`` as ``hint`` asks, without losing information; raise :class:`SpecError` otherwise."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in args:
            return None
        return _coerce(key, value, next(a for a in args if a is not type(None)))
    if origin is tuple:
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise SpecError(f"{key}={value!r}: must be a list, such as [{value}]")
        return tuple(_coerce(key, v, args[0]) for v in value)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise SpecError(f"{key}={value!r}: must be a mapping")
        return json.loads(canonical_json(value))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, hint) and not (hint in (int, float) and isinstance(value, bool)):
        return value
    raise SpecError(f"{key}={value!r}: must be {_TYPE_WORDS.get(hint, hint)}, not {type(value).__name__}")


_TYPE_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def group_to_dict(part: Any) -> dict[str, Any]:
    """A group's fields as plain JSON values, in declaration order."""
    return {f.name: _plain(getattr(part, f.name)) for f in dataclasses.fields(part)}


def spec_to_dict(spec: RunSpec) -> dict[str, Any]:
    """The whole spec as plain JSON values; ``spec_from_dict`` is its inverse."""
    return {g: group_to_dict(getattr(spec, g)) for g in GROUPS} | {"steps": spec.steps, "seed": spec.seed}


def _plain(value: Any) -> Any:
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


_NEVER = object()


def group_science(part: Any) -> dict[str, Any]:
    """The fields of one group that are part of the identity."""
    science = {}
    for f in dataclasses.fields(part):
        value = getattr(part, f.name)
        compute = f.metadata.get("compute") and value != f.metadata.get("science_at", _NEVER)
        if compute or ("omit_at" in f.metadata and value == f.metadata["omit_at"]):
            continue
        science[f.name] = _plain(value)
    return science


def canonical_json(value: Any, where: str = "") -> str:
    """JSON with sorted keys, no spaces and one spelling per value.

    Raises:
        SpecError: for a value with no stable form: NaN, infinity, a set, an object, a key that is not text.
    """
    if value is None or isinstance(value, (bool, str)):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise SpecError(f"{where or 'value'}={value!r}: has no stable form; use a finite number")
        return repr(value + 0.0)  # + 0.0 turns -0.0 into 0.0
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(canonical_json(v, f"{where}[{i}]") for i, v in enumerate(value)) + "]"
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise SpecError(f"{where or 'mapping'}: key {key!r} must be text")
        items = (
            f"{json.dumps(k, ensure_ascii=False)}:{canonical_json(value[k], f'{where}.{k}')}"
            for k in sorted(value)
        )
        return "{" + ",".join(items) + "}"
    raise SpecError(f"{where or 'value'}: a {type(value).__name__} has no stable form; use plain JSON values")


def group_canonical(group: str, part: Any) -> str:
    """Canonical JSON of one group's science part: the fragment that :func:`join_run_id` hashes."""
    return canonical_json(group_science(part), group)


def join_run_id(fragments: Mapping[str, str], steps: int, seed: int) -> str:
    """Hash a run from its groups' canonical fragments (see :func:`group_canonical`), as the planner does
    10⁶ times.
    """
    text = joined_groups(fragments) + joined_scalars(steps, seed)
    return hashlib.sha256(text.encode()).hexdigest()[:RUN_ID_LENGTH]


_SORTED_GROUPS = tuple(sorted(GROUPS))


def joined_groups(fragments: Mapping[str, str]) -> str:
    """Canonical text of a run up to its scalars; many runs share it, so its hash can be begun once."""
    return "{" + ",".join(f'"{g}":{fragments[g]}' for g in _SORTED_GROUPS)


def joined_scalars(steps: int, seed: int) -> str:
    """Canonical text of a run after :func:`joined_groups`."""
    return f',"seed":{seed},"steps":{steps}}}'


def run_id_of(spec: RunSpec) -> str:
    """The run's identity; see :attr:`RunSpec.run_id`."""
    return join_run_id({g: group_canonical(g, getattr(spec, g)) for g in GROUPS}, spec.steps, spec.seed)
