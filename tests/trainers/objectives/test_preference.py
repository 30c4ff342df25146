"""Losses on given completions against their formulas, finite differences, TRL's own functions, and limits."""

from __future__ import annotations

import math
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sweeps.spec import ObjectiveSpec
from trainers.objectives import preference
from trainers.objectives.preference import PreferenceLoss, Preferences, Scored, preference_loss

LOG_PROB = [-3.1, -7.4, -0.8, -12.9, -5.5, -2.2, -9.3]
REFERENCE = [-3.6, -7.0, -1.9, -11.2, -5.5, -4.0, -8.1]
TOKENS = [4, 6, 1, 9, 3, 2, 7]
CHOSEN = [0, 2, 5, 0]
REJECTED = [1, 3, 4, 6]
"""Four pairs of seven completions: one is chosen twice, so that its slopes add up."""

DESIRABLE = [True, False, False, True]
MISMATCHED = [(-8.0, -9.5), (-4.0, -6.0), (-11.0, -9.8), (-3.0, -3.2)]
Z = (1.5 + 2.0 - 1.2 + 0.2) / 4

PARAMETERS: dict[str, dict[str, Any]] = {
    "dpo": {"beta": 0.3},
    "dpo per token": {"preference": "dpo", "beta": 3.0, "per_token": True},
    "ipo": {"beta": 0.4, "per_token": True},
    "ipo of sums": {"preference": "ipo", "beta": 0.4},
    "simpo": {"beta": 2.0, "margin": 0.5},
    "orpo": {"beta": 0.7},
    "redi": {"negative_weight": 0.8},
    "kto": {"beta": 0.3, "desirable_weight": 1.1, "undesirable_weight": 0.9},
    "npo": {"beta": 0.3},
    "dco": {"attempts": 8},
    "dco of one attempt": {"preference": "dco", "attempts": 1},
}


def objective(name: str, **other: Any) -> ObjectiveSpec:
    return ObjectiveSpec(**{"preference": name, **PARAMETERS[name], **other})


def scored(log_prob: Any, reference: Any, tokens: Any) -> Scored:
    return Scored(
        log_prob_P=torch.as_tensor(log_prob, dtype=torch.float64),
        reference_P=torch.as_tensor(reference, dtype=torch.float64),
        tokens_P=torch.as_tensor(tokens, dtype=torch.float64),
    )


def preferences_of(kind: str) -> Preferences:
    return Preferences(
        chosen_P=torch.tensor(CHOSEN),
        rejected_P=torch.tensor(REJECTED),
        desirable_P=torch.tensor(DESIRABLE) if kind == "kto" else None,
    )


def ours(spec: ObjectiveSpec, log_prob: Any = None) -> PreferenceLoss:
    completions = scored(LOG_PROB if log_prob is None else log_prob, REFERENCE, TOKENS)
    policy, reference = zip(*MISMATCHED, strict=True)
    mismatched = scored(policy, reference, [1] * len(policy))
    return preference_loss(spec, completions, preferences_of(spec.preference), mismatched)


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def by_formula(name: str, log_prob: list[float], frozen: list[float]) -> float:
    """The mean over four pairs or rows, one after another. ``frozen``: ℓ that DCO's factor is of."""
    total = 0.0
    for w, lost, desirable in zip(CHOSEN, REJECTED, DESIRABLE, strict=True):
        a, b, n, m = log_prob[w], log_prob[lost], TOKENS[w], TOKENS[lost]
        ra, rb = a - REFERENCE[w], b - REFERENCE[lost]
        p, q = math.exp(a / n), math.exp(b / m)
        odds = (p / (1 - p)) / (q / (1 - q))
        hit = math.exp(frozen[w])
        missed = (1 - hit) ** 8
        total += {
            "dpo": -math.log(sigma(0.3 * (ra - rb))),
            "dpo per token": -math.log(sigma(3.0 * (ra / n - rb / m))),
            "ipo": (ra / n - rb / m - 1.25) ** 2,
            "ipo of sums": (ra - rb - 1.25) ** 2,
            "simpo": -math.log(sigma(2.0 * a / n - 2.0 * b / m - 1.0)),
            "orpo": -a / n - 0.7 * math.log(odds / (1 + odds)),
            "redi": -a / n + 0.8 * b / m,
            "kto": 1.1 * (1 - sigma(0.3 * (ra - Z))) if desirable else 0.9 * (1 - sigma(0.3 * (Z - ra))),
            "npo": (2 / 0.3) * math.log(1 + math.exp(0.3 * ra)),
            "dco": 8 * hit * (1 - hit) ** 7 / (1 - missed) * -a / n,
            "dco of one attempt": -a / n,
        }[name]
    return total / 4


@pytest.mark.parametrize("name", PARAMETERS)
def test_loss_and_slopes_equal_the_formula_and_its_finite_differences(name):
    found = ours(objective(name))
    assert found.loss == pytest.approx(by_formula(name, LOG_PROB, LOG_PROB), rel=1e-12)
    step = 1e-6
    for s in range(len(LOG_PROB)):
        up, down = list(LOG_PROB), list(LOG_PROB)
        up[s], down[s] = up[s] + step, down[s] - step
        rise = by_formula(name, up, LOG_PROB) - by_formula(name, down, LOG_PROB)
        assert found.slope_S[s].item() == pytest.approx(rise / (2 * step), abs=1e-8)


@pytest.mark.parametrize("log_prob", [0.0, -1e-9, -700.0, -1e5], ids=str)
@pytest.mark.parametrize("reference", [0.0, -700.0, -1e5], ids=str)
@pytest.mark.parametrize("name", PARAMETERS)
def test_no_completion_is_too_likely_or_too_long(name, log_prob, reference):
    """Certain ones, and thousands of tokens whose ratio to the reference no float can hold."""
    spec = objective(name)
    completions = scored([log_prob, -700.0, log_prob], [reference, 0.0, -1e5], [300, 300, 1])
    for w, lost in ((0, 1), (1, 0), (2, 1), (1, 2)):
        preferences = Preferences(
            chosen_P=torch.tensor([w]),
            rejected_P=torch.tensor([lost]),
            desirable_P=torch.tensor([True]) if spec.preference == "kto" else None,
        )
        found = preference_loss(spec, completions, preferences, completions)
        assert math.isfinite(found.loss)
        assert found.slope_S.isfinite().all()
        assert all(math.isfinite(value) for value in found.figures.values())


SOME_NATS = st.floats(-40.0, 0.0)
PAIR = st.tuples(SOME_NATS, SOME_NATS, SOME_NATS, SOME_NATS)


def sides(pair: tuple[float, float, float, float], n: int = 1) -> tuple[Scored, Scored]:
    return scored([pair[0]], [pair[1]], [n]), scored([pair[2]], [pair[3]], [n])


@settings(deadline=None)
@given(PAIR)
def test_dpo_without_beta_knows_nothing_and_one_that_leads_by_more_costs_less(pair):
    chosen, rejected = sides(pair)
    assert preference.dpo(chosen, rejected, beta=1e-12).item() == pytest.approx(math.log(2))
    higher = scored([pair[0] + 1], [pair[1]], [1])
    assert preference.dpo(higher, rejected, beta=0.1) < preference.dpo(chosen, rejected, beta=0.1)


@settings(deadline=None)
@given(PAIR, st.integers(1, 50))
def test_dpo_per_token_is_dpo_at_a_beta_of_so_many_tokens_less(pair, n):
    chosen, rejected = sides(pair, n)
    per_token = preference.dpo(chosen, rejected, beta=0.5 * n, per_token=True)
    torch.testing.assert_close(per_token, preference.dpo(chosen, rejected, beta=0.5))


@settings(deadline=None)
@given(st.floats(0.01, 10.0), SOME_NATS, SOME_NATS)
def test_ipo_is_least_at_a_margin_of_half_a_beta(beta, reference, rejected_nats):
    lost = scored([rejected_nats], [reference], [1])
    lead = rejected_nats - reference + 1 / (2 * beta)
    best = scored([lead], [0.0], [1])
    assert preference.ipo(best, lost, beta=beta).item() == pytest.approx(0, abs=1e-12)
    for off in (-0.1, 0.1):
        beside = scored([lead + off], [0.0], [1])
        assert preference.ipo(beside, lost, beta=beta).item() == pytest.approx(0.01, abs=1e-9)


@settings(deadline=None)
@given(SOME_NATS, SOME_NATS)
def test_npo_at_a_small_beta_is_gradient_ascent(log_prob, reference):
    """2/β·log 2 + r, to first order in β: its slope is 1 where descent on the rows' NLL has −1."""
    leaf = torch.tensor([log_prob], dtype=torch.float64, requires_grad=True)
    rows = Scored(
        log_prob_P=leaf,
        reference_P=torch.tensor([reference], dtype=torch.float64),
        tokens_P=torch.ones(1, dtype=torch.float64),
    )
    loss = preference.npo(rows, beta=1e-6)
    loss.backward()
    assert leaf.grad.item() == pytest.approx(1.0, abs=1e-4)
    assert loss.item() - 2e6 * math.log(2) == pytest.approx(log_prob - reference, abs=2e-3)


@settings(deadline=None)
@given(st.floats(0.05, 5.0), SOME_NATS)
def test_npo_lets_go_of_what_is_forgotten(beta, reference):
    far = torch.tensor([reference - 60 / beta], dtype=torch.float64, requires_grad=True)
    rows = Scored(log_prob_P=far, reference_P=torch.tensor([reference]), tokens_P=torch.ones(1))
    preference.npo(rows, beta=beta).backward()
    assert 0 < far.grad.item() < 1e-20


@settings(deadline=None)
@given(st.floats(-200.0, 0.0), st.integers(1, 1024))
def test_dco_descends_the_probability_that_all_attempts_miss(log_prob, attempts):
    """F is −d/dℓ of −log(1 − (1 − p)^N), here through autograd of the plain formula."""
    p = math.exp(log_prob)
    factor = preference.dco_factor(torch.tensor([log_prob], dtype=torch.float64), attempts).item()
    assert 0 <= factor <= 1 + 1e-12
    if attempts == 1:
        assert factor == 1
    elif attempts * p > 1e-6 and p < 1 - 1e-9:
        leaf = torch.tensor(log_prob, dtype=torch.float64, requires_grad=True)
        torch.log(1 - (1 - leaf.exp()) ** attempts).backward()
        assert factor == pytest.approx(leaf.grad.item(), rel=1e-6, abs=1e-12)
    elif attempts * p <= 1e-6:
        assert factor == pytest.approx(1, abs=1e-6)


@settings(deadline=None)
@given(st.floats(-30.0, -0.001), st.integers(2, 1024))
def test_dco_s_factor_is_near_the_series_of_its_authors(log_prob, attempts):
    p, others = math.exp(log_prob), attempts - 1
    if p * attempts < 0.1:
        above = 1 - others * p + others * (attempts - 2) * p * p / 2
        below = 1 - others / 2 * p + others * (attempts - 2) / 6 * p * p
        factor = preference.dco_factor(torch.tensor(log_prob, dtype=torch.float64), attempts).item()
        assert factor == pytest.approx(above / below, abs=1.5e-4)


@settings(deadline=None)
@given(st.lists(st.tuples(SOME_NATS, SOME_NATS), min_size=1, max_size=8))
def test_kto_s_z_is_never_negative_and_no_gradient_passes_it(pairs):
    policy, reference = zip(*pairs, strict=True)
    leaf = torch.tensor(policy, dtype=torch.float64, requires_grad=True)
    tokens = torch.ones(len(pairs), dtype=torch.float64)
    reference_P = torch.tensor(reference, dtype=torch.float64)
    z = preference.kto_z(Scored(log_prob_P=leaf, reference_P=reference_P, tokens_P=tokens))
    assert z.item() == pytest.approx(max(0, sum(a - b for a, b in pairs) / len(pairs)))
    assert not z.requires_grad


@settings(deadline=None)
@given(st.floats(-50.0, 0.0))
def test_log1mexp_is_exact_at_either_end(x):
    found = preference.log1mexp(torch.tensor(x, dtype=torch.float64)).item()
    assert found == pytest.approx(math.log(-math.expm1(x)) if x else -math.inf, rel=1e-12)


@pytest.mark.parametrize("kind", ["dpo", "ipo", "simpo", "orpo", "redi"])
def test_figures_of_pairs_are_those_of_trl(kind):
    spec = objective(kind)
    figures = ours(spec).figures
    scale = 1.0 if kind == "redi" else spec.beta

    def reward(s: int) -> float:
        if kind in ("dpo", "ipo"):
            return scale * (LOG_PROB[s] - REFERENCE[s])
        return scale * LOG_PROB[s] / TOKENS[s]

    chosen, rejected = [reward(s) for s in CHOSEN], [reward(s) for s in REJECTED]
    ahead = sum(a > b for a, b in zip(chosen, rejected, strict=True)) / 4
    assert figures == pytest.approx(
        {
            "log_prob_chosen": sum(LOG_PROB[s] for s in CHOSEN) / 4,
            "log_prob_rejected": sum(LOG_PROB[s] for s in REJECTED) / 4,
            "reward_chosen": sum(chosen) / 4,
            "reward_rejected": sum(rejected) / 4,
            "reward_margin": (sum(chosen) - sum(rejected)) / 4,
            "reward_accuracy": ahead,
        }
    )


def test_figures_of_labelled_rows_leave_out_the_side_that_no_row_is_of():
    completions = scored(LOG_PROB, REFERENCE, TOKENS)
    labelled = Preferences(chosen_P=torch.tensor([0, 2]), desirable_P=torch.tensor([True, True]))
    figures = preference_loss(objective("kto"), completions, labelled, completions).figures
    assert set(figures) == {"log_prob_chosen", "reward_chosen", "kto_z_nats"}


def whole_process() -> SimpleNamespace:
    same = {"gather": lambda x: x, "gather_for_metrics": lambda x: x, "device": torch.device("cpu")}
    return SimpleNamespace(**same)


def of_one_token(log_prob: list[float], tokens: list[int]) -> tuple[Tensor, Tensor]:
    """Per-token log-probabilities that sum to ℓ, and the mask of so many tokens after a prompt of one."""
    width = max(tokens)
    mask = torch.arange(width) < torch.tensor(tokens)[:, None]
    share = torch.tensor(log_prob, dtype=torch.float64) / torch.tensor(tokens)
    whole = torch.cat([torch.zeros(len(tokens), 1, dtype=torch.bool), mask], 1)
    return (share[:, None] * mask), whole.long()


class Answers:
    """What TRL's trainers read off a model, around given log-probabilities of each row's first token id."""

    training = True

    def __init__(self, per_token_ST: Tensor) -> None:
        self._per_token_ST = per_token_ST

    def __call__(self, *, input_ids: Tensor, **_: Any) -> SimpleNamespace:
        rows = self._per_token_ST[input_ids[:, 0]]
        nothing = torch.zeros_like(rows)
        return SimpleNamespace(log_probs=rows, entropy=nothing, mean_logits=nothing, is_top1=nothing.bool())


@pytest.mark.parametrize(
    ("name", "loss_type"),
    [("dpo", "sigmoid"), ("dpo per token", "sigmoid_norm"), ("ipo", "ipo")],
)
def test_trl_computes_the_same_loss_slopes_and_figures_of_pairs(name, loss_type):
    trl = pytest.importorskip("trl", reason="trl is a test extra")
    spec = objective(name)
    per_token, mask = of_one_token(LOG_PROB, TOKENS)
    leaf = per_token.clone().requires_grad_()
    index = torch.tensor(CHOSEN + REJECTED)
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=True),
        accelerator=whole_process(),
        args=SimpleNamespace(gradient_checkpointing_kwargs=None),
        aux_loss_enabled=False,
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        loss_types=[loss_type],
        loss_weights=[1.0],
        beta=spec.beta,
        use_weighting=False,
        _metrics={"train": defaultdict(list)},
        _total_train_tokens=0,
        _tp_size=1,
    )
    reference = torch.tensor(REFERENCE, dtype=torch.float64)
    inputs = {
        "input_ids": index[:, None].repeat(1, mask.shape[1]),
        "attention_mask": mask[index],
        "completion_mask": mask[index],
        "ref_chosen_logps": reference[CHOSEN],
        "ref_rejected_logps": reference[REJECTED],
    }
    theirs = trl.DPOTrainer._compute_loss(trainer, Answers(leaf), inputs, False)
    theirs.backward()
    found = ours(spec)
    assert found.loss == pytest.approx(theirs.item(), rel=1e-12)
    for s, length in enumerate(TOKENS):  # every token of a completion has its ℓ's slope
        assert leaf.grad[s, :length].tolist() == pytest.approx([found.slope_S[s].item()] * length)
    logged = {name: values[0] for name, values in trainer._metrics["train"].items() if name != "num_tokens"}
    assert found.figures == pytest.approx(
        {
            "log_prob_chosen": logged["logps/chosen"],
            "log_prob_rejected": logged["logps/rejected"],
            "reward_chosen": logged["rewards/chosen"],
            "reward_rejected": logged["rewards/rejected"],
            "reward_margin": logged["rewards/margins"],
            "reward_accuracy": logged["rewards/accuracies"],
        },
        abs=1e-6,
    )


def test_trl_computes_the_same_loss_and_slopes_of_labelled_rows():
    trl = pytest.importorskip("trl", reason="trl is a test extra")
    spec = objective("kto")
    leaf = torch.tensor(LOG_PROB, dtype=torch.float64, requires_grad=True)
    index = torch.tensor(CHOSEN)
    policy, reference = zip(*MISMATCHED, strict=True)
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=True),
        accelerator=whole_process(),
        aux_loss_enabled=False,
        calculate_KL=True,
        precompute_ref_logps=True,
        loss_type="kto",
        beta=spec.beta,
        desirable_weight=spec.desirable_weight,
        undesirable_weight=spec.undesirable_weight,
        _metrics={"train": defaultdict(list)},
        _total_train_tokens=0,
        _tp_size=1,
        _compute_kl_logps=lambda model, batch: torch.tensor(policy, dtype=torch.float64),
    )
    inputs = {
        "input_ids": index[:, None].repeat(1, 2),
        "attention_mask": torch.ones(4, 2),
        "completion_mask": torch.ones(4, 2, dtype=torch.long),
        "label": torch.tensor(DESIRABLE),
        "ref_logps": torch.tensor(REFERENCE, dtype=torch.float64)[CHOSEN],
        "ref_KL_logps": torch.tensor(reference, dtype=torch.float64),
    }
    theirs = trl.KTOTrainer._compute_loss(trainer, Answers(leaf[:, None]), inputs, False)
    theirs.backward()
    found = ours(spec)
    assert found.loss == pytest.approx(theirs.item(), rel=1e-12)
    torch.testing.assert_close(found.slope_S, leaf.grad)
    logged = {name: values[0] for name, values in trainer._metrics["train"].items()}
    assert found.figures == pytest.approx(
        {
            "log_prob_chosen": logged["logps/chosen"],
            "log_prob_rejected": logged["logps/rejected"],
            "reward_chosen": logged["rewards/chosen"],
            "reward_rejected": logged["rewards/rejected"],
            "reward_margin": logged["rewards/margins"],
            "kto_z_nats": logged["kl"],
        },
        abs=1e-6,
    )


def means(index: list[int]) -> Tensor:
    return torch.tensor([LOG_PROB[s] / TOKENS[s] for s in index], dtype=torch.float64)


def test_trl_computes_the_same_simpo():
    cpo = pytest.importorskip("trl.experimental.cpo", reason="trl is a test extra")
    spec = objective("simpo")
    trainer = SimpleNamespace(
        alpha=0.0,
        beta=spec.beta,
        loss_type="simpo",
        label_smoothing=0.0,
        simpo_gamma=spec.beta * spec.margin,
        accelerator=whole_process(),
    )
    theirs, chosen, rejected = cpo.CPOTrainer.cpo_loss(trainer, means(CHOSEN), means(REJECTED))
    found = ours(spec)
    assert found.loss == pytest.approx(theirs.mean().item(), rel=1e-12)
    assert found.figures["reward_margin"] == pytest.approx((chosen - rejected).mean().item())


def test_trl_computes_the_same_odds_ratio():
    orpo = pytest.importorskip("trl.experimental.orpo", reason="trl is a test extra")
    spec = objective("orpo")
    trainer = SimpleNamespace(beta=spec.beta, accelerator=whole_process())
    theirs = orpo.ORPOTrainer.odds_ratio_loss(trainer, means(CHOSEN), means(REJECTED))[0]
    nll = -means(CHOSEN).mean()
    assert ours(spec).loss == pytest.approx((nll - theirs.mean()).item(), abs=1e-6)
