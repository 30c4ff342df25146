"""Packed runs on training sets and given completions: near the unpacked ones, their bits without mates."""

from __future__ import annotations

import json

import pytest

from sweeps.manifest.resolve_data import resolve_data
from sweeps.spec import RunSpec
from sweeps.spec.objective_names import OF_PAIRS
from tests.trainers.comparing import column
from tests.trainers.packs.test_trainer import packed, told
from tests.trainers.presets import preset_dict
from tests.trainers.step import preference_rows
from tests.trainers.worlds import tiny_spec
from trainers.protocol import RunContext, RunResult
from trainers.tiny.world import Problem, solve_carefully

FIGURES = (
    *("loss", "entropy_nats", "grad_norm", "nll_nats", "kl_nats", "reward", "target_tokens"),
    *("log_prob_chosen", "log_prob_rejected", "reward_margin", "kto_z_nats", "prompts_easy", "num_distinct"),
)
"""Columns of a step that pack and run alone are compared by, where a run has them."""

LORA = {"adapter": "lora", "adapter_rank": 4, "adapter_alpha": 16}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return preference_rows.files(tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="module")
def solved(tmp_path_factory) -> str:
    """Twelve problems with answers and completions of unequal lengths."""
    path = tmp_path_factory.mktemp("solved") / "solved.jsonl"
    problems = [Problem(a=7 * n % 100, b=13 * n % 100) for n in range(12)]
    rows = [
        {"prompt": p.prompt, "answer": p.answer, "completion": solve_carefully(p) if n % 3 else p.answer}
        for n, p in enumerate(problems)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def set_spec(path: str, name: str, pack: int = 16, *, targets: str = "", **groups) -> RunSpec:
    """Three steps of four rows each, over a training set."""
    data = {"path": path, "prompts_per_step": 4, **({"targets": targets} if targets else {})}
    data |= groups.pop("data", {})
    objective = {**preset_dict(name), "temperature": 1.0, **groups.pop("objective", {})}
    objective |= {"group_size": 0, "trained_per_prompt": 0}
    return tiny_spec(
        **{
            "example": {"prompts": [], "name": ""},
            "data": resolve_data(data)[0],
            "objective": objective,
            "sampling": {"num_rollouts": 16, "temperature": 1.2},
            "eval": {"path": None},
            "optim": {"lr": 1e-4},
            "steps": 3,
            "engine": {"pack": pack, **groups.pop("engine", {})},
            **groups,
        }
    )


def compared_spec(files, name: str, pack: int = 16, **groups) -> RunSpec:
    """The same on pairs or labelled rows."""
    of_pairs = name in OF_PAIRS
    targets = "pairs" if of_pairs else "labels" if name == "kto" else "completions"
    return set_spec(str(files["pairs" if of_pairs else "labels"]), name, pack, targets=targets, **groups)


def require_alike(pack: RunResult, plain: RunResult) -> None:
    """A packed run and the run by itself saw the same rows and nearly the same figures."""
    assert pack.layout["pack"] == 16
    assert "pack" not in plain.layout
    assert [set(row) for row in pack.steps] == [set(row) for row in plain.steps]
    assert [(r.step, r.prompt, r.text, r.count) for r in pack.rollouts] == [
        (r.step, r.prompt, r.text, r.count) for r in plain.rollouts
    ]
    for figure in FIGURES:
        own, theirs = column(pack.to_json(), figure), column(plain.to_json(), figure)
        assert own == pytest.approx(theirs, rel=5e-4, abs=2e-5), figure


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("sft", {}),
        ("sft", {"objective": {"aggregation": "sequence"}, "engine": {"micro_batch": 3}}),
        ("sft", {"model": LORA}),
        ("sft", {"objective": {"entropy_weight": 0.2}}),
        ("sft", {"objective": {"entropy_weight": -0.1, "temperature": 0.7}, "engine": {"micro_batch": 3}}),
        ("dco", {"objective": {"attempts": 4}}),
    ],
    ids=["sft", "sequence", "lora", "em", "micro_batch", "dco"],
)
def test_packed_runs_on_completions_agree_with_unpacked_ones(trainer, solved, name, groups):
    both = [set_spec(solved, name, width, targets="completions", **_copy(groups)) for width in (0, 16)]
    plain, pack = (trainer.run(spec, RunContext()) for spec in both)
    require_alike(pack, plain)
    assert column(pack.to_json(), "target_tokens")


@pytest.mark.parametrize("name", [*OF_PAIRS, *preference_rows.OF_LABELS])
def test_packed_comparisons_agree_with_unpacked_ones(trainer, files, name):
    plain, pack = (trainer.run(compared_spec(files, name, width), RunContext()) for width in (0, 16))
    require_alike(pack, plain)


@pytest.mark.parametrize("name", ["em", "grpo", "majority"])
def test_packed_runs_draw_rollouts_of_each_steps_rows(trainer, solved, name):
    plain, pack = (trainer.run(set_spec(solved, name, width), RunContext()) for width in (0, 16))
    require_alike(pack, plain)
    assert len({r.prompt for r in pack.rollouts}) > 4


def test_steps_on_the_same_rollouts_take_the_same_rows(trainer, solved):
    groups = {"objective": {"iterations": 2, "clip_low": 0.05, "clip_high": 0.05}, "steps": 4}
    plain, pack = (trainer.run(set_spec(solved, "grpo", w, **_copy(groups)), RunContext()) for w in (0, 16))
    require_alike(pack, plain)


def test_members_of_all_kinds_share_a_pack_and_no_bit(trainer, files, solved):
    specs = [
        set_spec(solved, "sft", targets="completions", seed=1),
        set_spec(solved, "em", seed=2, data={"order": "shuffle"}),
        set_spec(solved, "sft", targets="completions", seed=3, objective={"entropy_weight": 0.1}),
        set_spec(solved, "grpo", seed=1),
        set_spec(solved, "sft", targets="completions", seed=1, optim={"lr": 1e-3}),
        compared_spec(files, "dpo"),
        compared_spec(files, "kto", seed=4),
    ]
    alone = [told(trainer.run(spec, RunContext())) for spec in specs]
    assert [told(outcome) for outcome in packed(trainer, specs)] == alone
    assert [told(outcome) for outcome in packed(trainer, specs[::-1])] == alone[::-1]


def test_a_mate_that_no_longer_gives_its_completions_a_chance_changes_nobody(trainer, solved):
    wild = set_spec(solved, "sft", targets="completions", optim={"lr": 10.0, "grad_clip": 0.0}, steps=4)
    tame = set_spec(solved, "grpo", objective={"kl": "k3", "kl_coef": 0.1}, steps=4)
    alone = told(trainer.run(tame, RunContext()))
    outcomes = packed(trainer, [wild, tame])
    assert told(outcomes[1]) == alone
    assert max(column(outcomes[0].to_json(), "nll_nats")) > 90


def test_a_row_that_cannot_be_encoded_fails_its_run_alone(trainer, solved):
    good = set_spec(solved, "sft", targets="completions")
    bad = set_spec(solved, "sft", targets="completions", data={"max_tokens": 7}, seed=1)
    alone = told(trainer.run(good, RunContext()))
    outcomes = packed(trainer, [bad, good])
    assert isinstance(outcomes[0], Exception)
    assert "data.max_tokens=7" in str(outcomes[0])
    assert told(outcomes[1]) == alone


@pytest.mark.parametrize("width", [0, 16], ids=["unpacked", "packed"])
def test_runs_that_cut_the_same_rows_elsewhere_share_no_first_step(trainer, solved, width):
    cuts = [{"max_tokens": tokens, "overlong": "truncate"} for tokens in (9, 12, 512)]
    specs = [set_spec(solved, "sft", width, targets="completions", data=dict(cut)) for cut in cuts]
    alone = [told(trainer.run(spec, RunContext())) for spec in specs]
    assert [told(outcome) for outcome in packed(trainer, specs)] == alone
    assert len({row["steps"][0]["loss"] for row in alone}) == 3


@pytest.mark.parametrize("width", [0, 16], ids=["unpacked", "packed"])
def test_rows_with_other_system_messages_share_no_rollouts(trainer, tmp_path, width):
    specs = []
    for system in ("47+38", "1"):
        path = tmp_path / f"{system}.jsonl"
        messages = [{"role": "system", "content": system}, {"role": "user", "content": "5+7="}]
        path.write_text(json.dumps({"messages": messages}) + "\n")
        data = {"format": "chat", "name": "one", "prompts_per_step": 1}
        specs.append(set_spec(str(path), "em", width, data=data))
    alone = [told(trainer.run(spec, RunContext())) for spec in specs]
    assert [told(outcome) for outcome in packed(trainer, specs)] == alone
    assert alone[0]["steps"][0]["loss"] != alone[1]["steps"][0]["loss"]


def _copy(groups: dict) -> dict:
    """Groups that may be taken apart."""
    return {name: dict(value) if isinstance(value, dict) else value for name, value in groups.items()}
