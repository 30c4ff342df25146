"""A packed run is the run: near the unpacked one, and with the same bits whoever its mates are."""

from __future__ import annotations

import dataclasses
import itertools
import random

import pytest
import torch
from transformers import AutoModelForCausalLM

from sweeps.spec import RunSpec, SpecError
from tests.trainers.comparing import column, numbers
from tests.trainers.made_models import save_as_mistral
from tests.trainers.presets import preset_dict
from tests.trainers.worlds import tiny_spec
from trainers.em import EntropyMinimization
from trainers.engine.checkpoint import check_weights
from trainers.packs import gathering, gradients
from trainers.packs.engine import PackEngine
from trainers.packs.pool import PackPool
from trainers.packs.rollouts import draw_together, tree_bytes
from trainers.packs.trial import TRIED_SLOTS
from trainers.protocol import Cancelled, Outcome, RunContext, RunResult


def spec_of(number: int, **groups) -> RunSpec:
    """One of many runs that a pack may hold: rate, temperature, seed, problem and horizon are its own."""
    draw = random.Random(number)
    changes = {
        "prompt": draw.choice(["47+38=", "12+34=", "80+95="]),
        "seed": draw.randrange(4),
        "steps": draw.choice([2, 3, 4]),
        "optim": {"lr": draw.choice([1e-4, 4e-4, 1e-3]), "grad_clip": draw.choice([0.0, 1.0])},
        "objective": {"temperature": draw.choice([0.5, 1.0]), "entropy_weight": draw.choice([1.0, -0.5])},
        "schedule": {"name": draw.choice(["constant", "cosine"])},
        "sampling": {"temperature": draw.choice([0.7, 1.0]), "top_p": draw.choice([1.0, 0.9])},
        "eval": {"steps": [0, 2], "limit": 20},
        "engine": {"pack": 4},
    }
    return tiny_spec(**{**changes, **groups})


def packed(
    trainer: EntropyMinimization, specs: list[RunSpec], contexts: list[RunContext] | None = None
) -> list[Outcome]:
    outcomes = dict(trainer.run_group(specs, contexts or [RunContext()] * len(specs)))
    return [outcomes[position] for position in range(len(specs))]


def told(outcome: Outcome) -> dict:
    assert isinstance(outcome, RunResult), outcome
    return numbers(outcome.to_json())


@pytest.mark.parametrize(
    ("base", "rate"),
    # At 2e-4, micro-batches of one already differ by 2e-4 from whole ones on GPT-NeoX.
    [("tiny-64", 2e-4), ("tiny-64-gpt-neox", 1e-4)],
)
def test_ten_packed_steps_agree_with_ten_unpacked_ones(trainer, base, rate):
    specs = [
        tiny_spec(base, seed=seed, optim={"lr": lr}, objective={"temperature": t}, eval={"limit": 50})
        for seed, lr, t in [(0, rate, 0.5), (1, rate / 2, 1.0), (2, rate, 1.5)]
    ]
    together = [dataclasses.replace(s, engine=dataclasses.replace(s.engine, pack=8)) for s in specs]
    for plain, pack in zip(packed(trainer, specs), packed(trainer, together), strict=True):
        assert pack.layout["pack"] == 8
        assert "pack" not in plain.layout
        require_ten_steps_alike(pack, plain, rel=2e-4, abs=2e-6)


def require_ten_steps_alike(pack: RunResult, plain: RunResult, **tolerance: float) -> None:
    """Hold a packed run against the same one by itself."""
    assert [r.text for r in pack.rollouts] == [r.text for r in plain.rollouts]
    assert [e.correct for e in pack.evaluations] == [e.correct for e in plain.evaluations]
    for name in ("loss", "entropy_nats", "grad_norm"):
        own, theirs = column(pack.to_json(), name), column(plain.to_json(), name)
        assert len(own) == 10
        assert own == pytest.approx(theirs, **tolerance)


@pytest.mark.parametrize(("seed", "base"), [(0, "tiny-64"), (1, "tiny-64"), (2, "tiny-64-gpt-neox")])
def test_bits_do_not_depend_on_who_the_mates_are(trainer, seed, base):
    chosen = random.Random(seed).sample(range(40), 7)
    alone = {number: told(trainer.run(spec_of(number, base=base), RunContext())) for number in chosen}
    for width in (4, 7):
        order = random.Random(seed + width).sample(chosen, len(chosen))
        specs = [spec_of(number, base=base, engine={"pack": width}) for number in order]
        for number, outcome in zip(order, packed(trainer, specs), strict=True):
            assert told(outcome) == alone[number]


def test_a_mate_that_diverges_is_a_result_and_changes_nobody(trainer):
    calm, wild = spec_of(1), spec_of(1, optim={"lr": 1e30, "grad_clip": 0.0}, objective={"temperature": 0.5})
    alone = told(trainer.run(calm, RunContext()))
    ill, well = packed(trainer, [wild, calm])
    assert ill.outcome == "diverged"
    assert told(well) == alone


def test_a_mate_that_is_called_off_leaves_and_changes_nobody(trainer):
    calm, other = spec_of(2, steps=4), spec_of(3, steps=4)
    alone = told(trainer.run(calm, RunContext()))
    asked = itertools.count()
    contexts = [RunContext(cancelled=lambda: next(asked) > 1), RunContext()]
    gone, stayed = packed(trainer, [other, calm], contexts)
    assert isinstance(gone, Cancelled)
    assert told(stayed) == alone


def test_what_fails_for_one_member_fails_it_alone(trainer):
    calm = spec_of(4)
    alone = told(trainer.run(calm, RunContext()))
    overlong = spec_of(4, prompt="47+38=" * 4, sampling={"max_prompt_tokens": 8})

    def broken(step: int, **values: float) -> None:
        raise OSError("the report was lost")

    contexts = [RunContext(), RunContext(report=broken), RunContext()]
    refused, lost, well = packed(
        trainer, [overlong, spec_of(4, steps=3, eval={"steps": [0, 1]}), calm], contexts
    )
    assert isinstance(refused, SpecError)
    assert isinstance(lost, OSError)
    assert told(well) == alone


def test_runs_that_share_a_trunk_have_the_bits_they_have_alone(trainer):
    specs = [spec_of(5, steps=n, schedule={"name": "constant"}) for n in (2, 3, 4)]
    alone = [told(trainer.run(spec, RunContext())) for spec in specs]
    assert [told(outcome) for outcome in packed(trainer, specs)] == alone


def test_out_of_memory_halves_the_pack_and_changes_no_bit(trainer, monkeypatch):
    specs = [spec_of(number) for number in range(6, 10)]
    alone = [told(trainer.run(spec, RunContext())) for spec in specs]
    whole = PackEngine.accumulate

    def accumulate(engine: PackEngine, tokens, loss, *, add: bool) -> None:
        if len(set(tokens.slot_N.tolist())) > 1:
            raise MemoryError("not enough for two")
        whole(engine, tokens, loss, add=add)

    monkeypatch.setattr(PackEngine, "accumulate", accumulate)
    outcomes = packed(trainer, specs)
    assert [told(outcome) for outcome in outcomes] == alone
    assert {outcome.layout["pack"] for outcome in outcomes} == {1}


def test_slots_that_do_not_fit_memory_halve_the_pack(trainer, monkeypatch):
    specs = [spec_of(number) for number in range(6, 10)]
    alone = [told(trainer.run(spec, RunContext())) for spec in specs]
    whole = PackPool._build

    def build(pool: PackPool, spec: RunSpec, width: int, targets) -> PackEngine:
        if width > TRIED_SLOTS:
            raise MemoryError("not enough for four slots")
        return whole(pool, spec, width, targets)

    monkeypatch.setattr(PackPool, "_build", build)
    trainer.packs.close()
    outcomes = packed(trainer, specs)
    assert [told(outcome) for outcome in outcomes] == alone
    assert {outcome.layout["pack"] for outcome in outcomes} == {2}


def test_a_pack_has_slots_for_the_runs_there_are_and_not_for_all_it_may_hold(trainer):
    alone = told(trainer.run(spec_of(6), RunContext()))
    outcome = trainer.run(spec_of(6, engine={"pack": 10**9}), RunContext())
    assert outcome.layout["pack"] == 10**9
    assert told(outcome) == alone


def test_a_run_that_fails_in_a_pack_of_one_is_not_begun_again(trainer, monkeypatch):
    begun = itertools.count()

    def accumulate(engine: PackEngine, tokens, loss, *, add: bool) -> None:
        next(begun)
        raise MemoryError("not enough for one")

    monkeypatch.setattr(PackEngine, "accumulate", accumulate)
    with pytest.raises(MemoryError):
        trainer.run(spec_of(6, engine={"pack": 16}), RunContext())
    assert next(begun) == 1


def test_kept_weights_are_the_models_and_those_of_the_run_alone(trainer, tmp_path):
    spec = spec_of(10, resources={"keep_checkpoints": "last"})
    mates = [spec_of(11, resources={"keep_checkpoints": "last"}), spec]
    trainer.run(spec, RunContext(checkpoint_dir=tmp_path / "alone"))
    packed(trainer, mates, [RunContext(), RunContext(checkpoint_dir=tmp_path / "packed")])
    folders = [tmp_path / name / f"step-{spec.steps}" for name in ("alone", "packed")]
    assert check_weights(folders[0])["digest"] == check_weights(folders[1])["digest"]
    model = AutoModelForCausalLM.from_pretrained(folders[1])
    assert torch.isfinite(model(input_ids=torch.tensor([[1, 2, 3]])).logits).all()


@pytest.mark.parametrize(
    "groups",
    [
        {"model": {"name": "mistral"}},
        {"engine": {"pack": 4, "gradient_checkpointing": True}},
        {"optim": {"half_every_steps": 1}},
    ],
    ids=["family", "checkpointing", "half"],
)
def test_a_run_that_cannot_be_packed_is_trained_by_itself(trainer, tmp_path, groups):
    if "model" in groups:
        groups = {"model": {"name": "mistral", "path": str(save_as_mistral(tmp_path / "mistral"))}}
    spec = spec_of(12, **groups)
    plain = dataclasses.replace(spec, engine=dataclasses.replace(spec.engine, pack=0))
    by_itself, unpacked = trainer.run(spec, RunContext()), trainer.run(plain, RunContext())
    assert "pack" not in by_itself.layout
    assert told(by_itself) == told(unpacked)


POLICIES = [
    *("em_ft", "em_rl_sequence", "em_rl_token", "grpo", "rgra", "rloo", "dr_grpo", "rlvr_one_shot", "rent"),
    *("majority", "self_certainty", "reinforce_positive_only"),
]
"""Shipped objectives that packs train, entropy minimization apart."""


def policy_spec(name: str, pack: int = 0, **groups) -> RunSpec:
    """Three steps on an objective, with a labelled problem and a temperature at which rollouts differ."""
    objective = {
        **preset_dict(name),
        "temperature": 1.0,
        "trained_per_prompt": 0,
        **groups.pop("objective", {}),
    }
    changes = {
        "example": {"name": "one", "prompts": ["47+38="], "answers": ["85"]},
        "objective": objective,
        "sampling": {"temperature": 1.3},
        "optim": {"lr": 1e-4},
        "eval": {"path": None},
        "engine": {"pack": pack},
        "steps": 3,
    }
    return tiny_spec(**{**changes, **groups})


@pytest.mark.parametrize("name", POLICIES)
def test_packed_objectives_agree_with_unpacked_ones(trainer, name):
    plain, pack = (trainer.run(policy_spec(name, width), RunContext()) for width in (0, 16))
    assert pack.layout["pack"] == 16
    assert [r.text for r in pack.rollouts] == [r.text for r in plain.rollouts]
    for figure in ("loss", "entropy_nats", "grad_norm", "reward", "kl_nats"):
        own, theirs = column(pack.to_json(), figure), column(plain.to_json(), figure)
        assert own == pytest.approx(theirs, rel=5e-4, abs=2e-5), figure


def test_steps_on_the_same_rollouts_clip_against_the_policy_that_drew_them(trainer):
    changes = {
        "steps": 4,
        "optim": {"lr": 2e-3},
        "objective": {"iterations": 2, "clip_low": 0.01, "clip_high": 0.01},
    }
    plain, pack = (trainer.run(policy_spec("grpo", width, **changes), RunContext()) for width in (0, 16))
    assert column(pack.to_json(), "loss")[1] != 0
    for figure in ("loss", "grad_norm"):
        own, theirs = column(pack.to_json(), figure), column(plain.to_json(), figure)
        assert own == pytest.approx(theirs, rel=1e-3, abs=1e-5), figure


def test_runs_that_share_a_first_gradient_clip_against_the_policy_that_drew_it(trainer):
    objective = {"iterations": 2, "clip_low": 0.01, "clip_high": 0.01}
    rates = (1e-4, 2e-3)
    specs = [policy_spec("grpo", 16, steps=4, optim={"lr": r}, objective=dict(objective)) for r in rates]
    alone = [told(trainer.run(spec, RunContext())) for spec in specs]
    assert [told(outcome) for outcome in packed(trainer, specs)] == alone


def test_objectives_of_all_kinds_share_a_pack_and_no_bit(trainer):
    specs = [policy_spec(name, 16, seed=seed) for seed, name in enumerate([*POLICIES[::2], "em"])]
    alone = [told(trainer.run(spec, RunContext())) for spec in specs]
    assert [told(outcome) for outcome in packed(trainer, specs)] == alone
    assert [told(outcome) for outcome in packed(trainer, specs[::-1])] == alone[::-1]


def test_rollouts_are_scored_in_as_little_memory_as_they_are_trained_on(trainer, monkeypatch):
    objective = {"kl_coef": 0.1, "kl": "k1"}
    specs = [policy_spec("grpo", 4, seed=seed, steps=2, objective=dict(objective)) for seed in range(3)]
    together = [told(outcome) for outcome in packed(trainer, specs)]
    measured, at_once = gradients._measured, []
    monkeypatch.setattr(gradients, "TRACE_BYTES", 0)
    monkeypatch.setattr(
        gradients, "_measured", lambda *a, **k: at_once.append(len(a[1])) or measured(*a, **k)
    )
    assert [told(outcome) for outcome in packed(trainer, specs)] == together
    assert max(at_once) == 1


def test_several_prompts_a_penalty_and_the_models_own_top_k_draw_what_they_draw_unpacked(trainer):
    changes = {
        "example": {"name": "two", "prompts": ["47+38=", "1+2="]},
        "sampling": {"temperature": 1.2, "repetition_penalty": 1.15, "top_k": "model", "num_rollouts": 32},
        "objective": {"temperature": 1.0, "aggregation": "sequence"},
    }
    plain, pack = (
        trainer.run(spec_of(20, engine={"pack": width}, **changes), RunContext()) for width in (0, 4)
    )
    assert [(r.prompt, r.text, r.count) for r in pack.rollouts] == [
        (r.prompt, r.text, r.count) for r in plain.rollouts
    ]
    assert {r.prompt for r in pack.rollouts} == {0, 1}
    for figure in ("loss", "entropy_nats", "grad_norm"):
        own, theirs = column(pack.to_json(), figure), column(plain.to_json(), figure)
        assert own == pytest.approx(theirs, rel=5e-4, abs=2e-6), figure


def cached_spec(number: int, base: str = "tiny-64", **groups) -> RunSpec:
    """A run whose rollouts are decoded with a cache, as those of large vocabularies and long texts are."""
    engine = {"pack": 4, "decoder": "cached", **groups.pop("engine", {})}
    return spec_of(number, base=base, engine=engine, **groups)


LORA = {"adapter": "lora", "adapter_rank": 4, "adapter_alpha": 16}


@pytest.mark.parametrize("model", [{}, LORA], ids=["full", "lora"])
def test_rollouts_decoded_with_a_cache_are_those_of_the_run_by_itself(trainer, model):
    sampling = {"temperature": 1.2, "repetition_penalty": 1.15, "max_new_tokens": 80, "num_rollouts": 16}
    changes = {"model": model, "sampling": sampling, "steps": 2, "prompt": "47+38="}
    plain = trainer.run(cached_spec(5, engine={"pack": 0}, **changes), RunContext())
    pack = trainer.run(cached_spec(5, **changes), RunContext())
    assert pack.layout["pack"] == 4
    assert [(r.text, r.count) for r in pack.rollouts] == [(r.text, r.count) for r in plain.rollouts]
    for figure in ("loss", "entropy_nats", "grad_norm"):
        own, theirs = column(pack.to_json(), figure), column(plain.to_json(), figure)
        assert own == pytest.approx(theirs, rel=5e-4, abs=2e-6), figure


def test_bits_of_cached_rollouts_do_not_depend_on_mates_nor_on_how_a_trees_mate_is_decoded(trainer):
    specs = [cached_spec(number, sampling={"max_new_tokens": 24}) for number in range(3)]
    alone = [told(trainer.run(spec, RunContext())) for spec in specs]
    assert [told(outcome) for outcome in packed(trainer, specs[::-1])] == alone[::-1]
    long = "+".join(["47"] * 33) + "="
    mixed = [
        spec_of(1, sampling={"max_new_tokens": 24}),
        spec_of(2, prompt=long, sampling={"max_new_tokens": 24}),
    ]
    alone = [told(trainer.run(spec, RunContext())) for spec in mixed]
    assert [told(outcome) for outcome in packed(trainer, mixed)] == alone


def test_trees_that_would_be_too_large_together_are_walked_in_turn(trainer, monkeypatch):
    specs = [spec_of(number) for number in range(4)]
    together = [told(outcome) for outcome in packed(trainer, specs)]
    walks = []
    monkeypatch.setattr(gathering, "TREE_BYTES", 2 * tree_bytes(specs[0].sampling, 18))
    monkeypatch.setattr(
        gathering, "draw_together", lambda *a, **k: walks.append(len(a[1])) or draw_together(*a, **k)
    )
    assert [told(outcome) for outcome in packed(trainer, specs)] == together
    assert max(walks) == 2


def test_rows_that_would_not_fit_memory_are_drawn_and_judged_fewer_at_once(trainer, monkeypatch):
    spec = cached_spec(6, steps=1, eval={"steps": [1], "limit": 20})
    whole = trainer.run(spec, RunContext())
    settling = trainer.packs.warm.rows
    monkeypatch.setattr(settling, "_given", 300_000)
    parts = trainer.run(spec, RunContext())
    assert parts.layout["rollout_rows"] in (1, 2, 4, 8)
    assert parts.layout["eval_rows"] < whole.layout["eval_rows"]
    assert [(r.text, r.count) for r in whole.rollouts] == [(r.text, r.count) for r in parts.rollouts]
    assert [e.correct for e in whole.evaluations] == [e.correct for e in parts.evaluations]


def test_fewer_cached_rows_at_once_draw_the_same(trainer):
    whole, parts = (
        trainer.run(cached_spec(6, steps=1, engine={"rollout_rows": rows}), RunContext()) for rows in (0, 8)
    )
    assert parts.layout["rollout_rows"] == 8
    assert [(r.text, r.count) for r in whole.rollouts] == [(r.text, r.count) for r in parts.rollouts]


@pytest.mark.parametrize("name", ["em", "em_rl_token", "rlvr_one_shot", "dr_grpo"])
@pytest.mark.parametrize("model", [{}, LORA], ids=["full", "lora"])
def test_micro_batches_add_up_and_share_no_bit_with_mates(trainer, name, model):
    def specs(micro_batch: int) -> list[RunSpec]:
        groups = {"model": model, "engine": {"pack": 4, "micro_batch": micro_batch}}
        ratio = {"iterations": 2} if name == "rlvr_one_shot" else {}
        return [
            policy_spec(name, 4, seed=seed, objective=ratio, **groups)
            if name != "em"
            else spec_of(seed, base="tiny-64", sampling={"temperature": 1.4}, **groups)
            for seed in range(3)
        ]

    whole = packed(trainer, specs(0))
    parts = packed(trainer, specs(3))
    alone = [told(trainer.run(spec, RunContext())) for spec in specs(3)]
    assert [told(outcome) for outcome in parts] == alone
    for own, other in zip(parts, whole, strict=True):
        assert len(own.rollouts) > 3, "more than one micro batch"
        assert (own.layout["micro_batch"], other.layout["micro_batch"]) == (3, 0)
        for figure in ("loss", "entropy_nats", "grad_norm"):
            near, exact = column(own.to_json(), figure), column(other.to_json(), figure)
            assert near == pytest.approx(exact, rel=2e-4, abs=2e-6), figure
