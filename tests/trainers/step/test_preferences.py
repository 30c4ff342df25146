"""Whole runs on pairs and labelled completions: layouts agree, parts add up, bad rows are refused."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from sweeps.spec import RunSpec, SpecError
from sweeps.spec.objective_names import OF_PAIRS
from tests.trainers.comparing import column, numbers
from tests.trainers.step import preference_rows
from tests.trainers.worlds import package_file
from trainers.model.target_encoding import GivenSequence
from trainers.protocol import RunContext
from trainers.step.preferences import mismatched_rows, preferences_among
from trainers.step.prompts import Prompts

COMPARING = (*OF_PAIRS, *preference_rows.OF_LABELS)

LOSS_TOLERANCE = 2e-5
"""Relative, across layouts: sums of tokens are added up in another order."""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return preference_rows.files(tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="module")
def runs(trainer, files):
    return {
        name: trainer.run(preference_rows.spec_of(files, name), RunContext()).to_json() for name in COMPARING
    }


def agree(recorded, other) -> None:
    for key in ("loss", "grad_norm", "log_prob_chosen", "log_prob_rejected", "reward_margin", "kto_z_nats"):
        near = pytest.approx(column(other, key), rel=LOSS_TOLERANCE, abs=LOSS_TOLERANCE)
        assert column(recorded, key) == near, key


def by_autograd(trainer, spec) -> list[float]:
    """Each step's loss, all of a step's completions in one graph, PyTorch's own optimizer."""
    base = trainer.load_base(spec.model)
    objective, optim = spec.objective, spec.optim
    folder = package_file("trainers/tiny/models/tiny-64")
    model, start = (AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32) for _ in range(2))
    stepper = torch.optim.AdamW(
        model.parameters(),
        lr=optim.lr,
        betas=(optim.beta1, optim.beta2),
        eps=optim.eps,
        weight_decay=optim.weight_decay,
    )
    prompts, losses = Prompts(spec, base), []

    def log_prob(of: torch.nn.Module, sequence: GivenSequence) -> Tensor:
        ids = torch.tensor([sequence.ids])
        all_BTV = torch.log_softmax(of(input_ids=ids).logits, -1)
        return torch.stack([all_BTV[0, t - 1, sequence.ids[t]] for t in sequence.counted]).sum()

    for step in range(1, spec.steps + 1):
        given = prompts.at(step).given
        terms = []
        for k, s in enumerate(given):
            if objective.preference in OF_PAIRS and s.role != "chosen":
                continue
            a, n = log_prob(model, s), len(s.counted)
            ra = a - log_prob(start, s).detach()
            if objective.preference in OF_PAIRS:
                b, m = log_prob(model, given[k + 1]), len(given[k + 1].counted)
                rb = b - log_prob(start, given[k + 1]).detach()
                terms.append(
                    {
                        "dpo": -torch.log(torch.sigmoid(0.1 * (ra - rb))),
                        "ipo": (ra / n - rb / m - 5) ** 2,
                        "simpo": -torch.nn.functional.logsigmoid(2 * (a / n - b / m) - 1),
                        "orpo": -a / n
                        - 0.1
                        * torch.nn.functional.logsigmoid(
                            torch.logit(torch.exp(a / n).double()) - torch.logit(torch.exp(b / m).double())
                        ),
                        "redi": -a / n + 0.8 * b / m,
                    }[objective.preference]
                )
            elif objective.preference == "kto":
                others = mismatched_rows(given)
                z = torch.stack([log_prob(model, o) - log_prob(start, o) for o in others]).mean().detach()
                sign = 1.0 if s.desirable else -1.0
                terms.append(1 - torch.sigmoid(sign * 0.1 * (ra - z.clamp(min=0))))
            elif objective.preference == "npo":
                terms.append(20 * torch.nn.functional.softplus(0.1 * ra))
            else:
                p = a.detach().double().exp()
                factor = 16 * p * (1 - p) ** 15 / (1 - (1 - p) ** 16) if p > 1e-9 else 1.0
                terms.append(factor * -a / n)
        loss = torch.stack([t.double() for t in terms]).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), optim.grad_clip)
        stepper.step()
        stepper.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", COMPARING)
def test_runs_lose_what_one_graph_of_all_completions_loses(trainer, files, runs, name):
    expected = by_autograd(trainer, preference_rows.spec_of(files, name))
    assert column(runs[name], "loss") == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert expected[-1] != pytest.approx(expected[0], rel=1e-3)


@pytest.mark.parametrize("name", COMPARING)
def test_micro_batches_and_zero_stages_change_nothing_beyond_rounding(trainer, files, runs, name):
    """A pair's two completions lie in micro batches of their own."""
    for words in (["engine.micro_batch=1", "engine.zero_stage=2"], ["engine.micro_batch=3"]):
        spec = preference_rows.spec_of(files, name, *words)
        agree(trainer.run(spec, RunContext()).to_json(), runs[name])


def test_two_ranks_agree_with_one(files, runs, two_ranks):
    sharded = {"dpo": 3, "kto": 3, "simpo": 2}
    specs = [
        preference_rows.spec_of(
            files, name, "resources.world_size=2", f"engine.zero_stage={sharded.get(name, 0)}"
        )
        for name in COMPARING
    ]
    for name, recorded in zip(COMPARING, two_ranks.run(specs), strict=True):
        agree(recorded, runs[name])


def test_runs_that_share_steps_end_as_they_would_alone(trainer, files):
    for name in ("dpo", "kto"):
        specs = preference_rows.composed(files, name, "optim.lr=1e-4,3e-4", "steps=2,4")
        together = dict(trainer.run_group(specs, [RunContext()] * len(specs)))
        for k, spec in enumerate(specs):
            assert numbers(together[k].to_json()) == numbers(trainer.run(spec, RunContext()).to_json())


@pytest.mark.parametrize("name", ["dpo", "kto"])
def test_a_killed_run_resumes_at_the_step_that_it_had_saved(trainer, files, tmp_path, name):
    spec = preference_rows.spec_of(files, name, "steps=4", "resources.save_every_steps=1")
    whole = trainer.run(spec, RunContext()).to_json()

    class Killed(Exception):
        pass

    def die(words: str) -> None:
        if words.startswith("step 2"):
            raise Killed

    with pytest.raises(Killed):
        trainer.run(spec, RunContext(checkpoint_dir=tmp_path, heartbeat=die))
    resumed = trainer.run(spec, RunContext(checkpoint_dir=tmp_path)).to_json()
    assert numbers(resumed) == numbers(whole)


def first(result) -> dict[str, float]:
    return next(row for row in result["steps"] if "loss" in row)


def test_a_preference_beside_the_likelihood_of_chosen_completions_is_their_weighted_sum(trainer, files, runs):
    words = ["objective.nll_weight=0.5", "objective.preference_weight=2"]
    for name in ("dpo", "kto"):
        both = first(trainer.run(preference_rows.spec_of(files, name, *words), RunContext()).to_json())
        alone = first(runs[name])
        assert both["loss"] == pytest.approx(2 * alone["loss"] + 0.5 * both["nll_nats"], rel=1e-6)
        kept = [r for r in preference_rows.labelled(4) if r["label"]] if name == "kto" else range(4)
        assert both["nll_nats"] > 0
        assert "nll_nats" not in alone
        assert len(kept) in (3, 4)


def test_forgetting_beside_a_likelihood_keeps_the_rows_that_are_desirable(trainer, files):
    """NPO forgets the row that is not; alone, without labels read, all four."""
    spec = preference_rows.spec_of(files, "npo", "objective.nll_weight=1")
    assert spec.data.targets == "labels"
    recorded = first(trainer.run(spec, RunContext()).to_json())
    labels = [row["label"] for row in preference_rows.labelled(4)]
    assert labels == [True, False, True, True]
    desirable = preference_rows.spec_of(files, "kto")
    assert recorded["log_prob_rejected"] == pytest.approx(
        first(trainer.run(desirable, RunContext()).to_json())["log_prob_rejected"], abs=1e-5
    )
    # Before the first step r is 0, so what is forgotten costs 2/β·log 2.
    assert recorded["loss"] == pytest.approx(20 * 0.6931471805599453 + recorded["nll_nats"], rel=1e-6)


def test_a_step_without_a_row_to_forget_forgets_nothing(trainer, tmp_path):
    kept = [row | {"label": True} for row in preference_rows.labelled(4)]
    path = preference_rows.write(tmp_path / "kept.jsonl", kept)
    spec = preference_rows.spec_of({"labels": path}, "npo", "objective.nll_weight=1", "steps=1")
    recorded = first(trainer.run(spec, RunContext()).to_json())
    assert recorded["loss"] == pytest.approx(recorded["nll_nats"])
    assert "log_prob_rejected" not in recorded


def test_a_preference_beside_rollouts_adds_to_what_they_lose(trainer, files, runs):
    """Rollouts of the same prompts, entropies minimised, and pairs compared in one step."""
    drawing = ["sampling.num_rollouts=8", "sampling.max_new_tokens=8", "steps=1"]
    words = [*drawing, "objective.entropy_weight=1"]
    both = first(trainer.run(preference_rows.spec_of(files, "dpo", *words), RunContext()).to_json())
    of_pairs = {"labels": files["pairs"]}
    drawn = preference_rows.spec_of(of_pairs, "em", *drawing, "objective.temperature=1")
    alone = first(trainer.run(drawn, RunContext()).to_json())
    assert both["completion_tokens"] == alone["completion_tokens"] > 0
    assert both["loss"] == pytest.approx(first(runs["dpo"])["loss"] + alone["loss"], rel=1e-6)


def test_divergence_on_given_completions_is_a_part_of_the_loss_in_any_layout(trainer, two_ranks, files):
    kl = ["objective.kl=forward", "objective.kl_coef=0.5", "objective.kl_on=completions", "optim.lr=1e-3"]

    def spec(*words: str) -> RunSpec:
        return preference_rows.spec_of(files, "sft", *kl, *words)

    recorded = trainer.run(spec(), RunContext()).to_json()
    apart = column(recorded, "kl_nats")
    assert apart[0] == pytest.approx(0, abs=1e-6)
    assert apart[2] > 1e-3
    parts = [n + 0.5 * k for n, k in zip(column(recorded, "nll_nats"), apart, strict=True)]
    assert column(recorded, "loss") == pytest.approx(parts, rel=1e-6)
    others = [
        trainer.run(spec("engine.micro_batch=1", "engine.zero_stage=2"), RunContext()).to_json(),
        *two_ranks.run([spec("resources.world_size=2", "engine.zero_stage=3")]),
    ]
    for other in others:
        agree(other, recorded)
        assert column(other, "kl_nats") == pytest.approx(apart, rel=1e-4, abs=1e-6)


def sequence(ids: str, counted: range, **other) -> GivenSequence:
    return GivenSequence(ids=tuple(map(ord, ids)), counted=tuple(counted), **other)


def test_each_prompt_meets_the_completion_of_the_row_before():
    rows = [sequence("pq12", range(2, 4)), sequence("x3", range(1, 2)), sequence("uvw456", range(4, 6))]
    mixed = mismatched_rows(rows)
    assert ["".join(map(chr, row.ids)) for row in mixed] == ["pq56", "x12", "uvw43"]
    assert [row.counted for row in mixed] == [(2, 3), (1, 2), (4,)]


def test_pairs_and_labels_are_told_by_role():
    chosen, rejected = (sequence("ab", range(1, 2), role=r) for r in ("chosen", "rejected"))
    found = preferences_among([chosen, rejected, chosen, rejected])
    assert found.chosen_P.tolist() == [0, 2]
    assert found.rejected_P is not None
    assert found.rejected_P.tolist() == [1, 3]
    assert found.desirable_P is None
    good, bad = (sequence("ab", range(1, 2), desirable=label) for label in (True, False))
    assert preferences_among([bad, good]).desirable_P.tolist() == [False, True]


@pytest.mark.parametrize(
    ("name", "row", "words", "message"),
    [
        ("dpo", {"prompt": "1+2=", "chosen": ";003", "rejected": ";003"}, [], "chosen.*equals rejected"),
        ("dpo", {"prompt": "1+2=", "chosen": ";003", "rejected": " "}, [], "rejected.*is empty"),
        ("kto", {"prompt": "1+2=", "completion": "", "label": True}, [], "completion.*is empty"),
        ("kto", {"prompt": "1+2=", "completion": ";003", "label": "so"}, [], "no label; give true or false"),
        ("kto", {"prompt": "1+2=", "completion": ";003"}, [], "label"),
        ("dpo", {"prompt": "1+2=", "completion": ";003"}, [], "chosen"),
        (
            "kto",
            {"prompt": "1+2=", "completion": ";003", "label": True},
            ["data.prompts_per_step=1"],
            "data.prompts_per_step=1: objective=kto .* another row's completion",
        ),
        (
            "redi",
            {"prompt": "1+2=", "chosen": ";003", "rejected": ";004"},
            ["objective.negative_weight=1.2"],
            r"negative_weight=1.2: must lie in \[0, 1\]",
        ),
        (
            "dpo",
            {"prompt": "1+2=", "chosen": ";003", "rejected": ";004"},
            ["objective.margin=1"],
            "objective.margin=1.0: is read by objective=simpo only",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused_before_a_run(tmp_path, name, row, words, message):
    rows = [*preference_rows.pairs(4)] if name in OF_PAIRS else [*preference_rows.labelled(4)]
    path = preference_rows.write(tmp_path / "rows.jsonl", [row, *rows])
    kind = "pairs" if name in OF_PAIRS else "labels"
    with pytest.raises(SpecError, match=message) as refused:
        preference_rows.spec_of({kind: path}, name, *words)
    assert len(str(refused.value)) < 600
    assert json.dumps(row) not in str(refused.value) or len(json.dumps(row)) < 80


def test_a_comparison_without_a_training_set_is_refused():
    from sweeps.compose import compose_sweep
    from sweeps.manifest.build import build_manifest

    with pytest.raises(SpecError, match="objective=dpo: trains on given pairs, and an example has prompts"):
        build_manifest(compose_sweep(["model=tiny-64", "example=tiny", "objective=dpo"]))
